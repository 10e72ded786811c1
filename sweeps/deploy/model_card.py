"""The model card of an exported model: what it is, what was measured, what its limits are."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rc_core.metrics.footprint import NONZERO, has_rounded, packed_bytes
from rc_core.record import TrialRecord
from sweeps.floors import best_line, standing
from sweeps.rows import reference_lines
from sweeps.selection.opened_data import has_test
from sweeps.selection.stamp import Stamp, changed_line, stamp_lines
from sweeps.shown_values import millions, percent

_DEV = ("id_dev", "ood_dev")
_TEST = ("id_test", "ood_test")
_PACKAGED_IDS = {"packaged:all-MiniLM-L6-v2": "sentence-transformers/all-MiniLM-L6-v2"}


def model_card(
    sweep: str,
    record: TrialRecord,
    reference: TrialRecord | None,
    tested: Mapping[str, Any],
    *,
    note: str = "",
    texts: Sequence[str] = (),
    length: int | None = None,
    compared: str = "",
    seeds: Mapping[str, Any] | None = None,
    seal: Stamp | None = None,
    size: Mapping[str, float] | None = None,
) -> str:
    """Return the card as Markdown with the front matter that model hubs read.

    Args:
        sweep: name of the sweep.
        record: the exported trial.
        reference: the dense reference it is compared with.
        tested: content of test.json, empty where the test roles were not opened.
        note: what the compression says of its stock form.
        texts: what the training data calls a sample's texts: one, or two of pairs in the order that
            the model takes them; none: not known.
        length: tokens at which texts were cut in training, special ones counted; by default the
            configuration's.
        compared: what the exported model's logits were compared with, and on what.
        seeds: this configuration over seeds not used to choose it, a row of
            `sweeps.selection.confirmed_text.confirmed_json`; None: there are none.
        seal: state of the seal, None while it holds.
        size: `rc_core.metrics.footprint.footprint` of the exported form; by default the trial's.
    """
    config = record.config
    encoder = str(config["compression"].get("model") or config["model"])
    sizes = {**record.metrics, **(size or {})}
    length = length or config["training"]["max_length"]
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-classification",
        *_base_model(encoder),
        "tags: [model-compression, robustness, out-of-distribution]",
        "---",
        "",
        f"# {record.name}",
        "",
        f"A text classifier compressed with `{config['compression']['name']}` and trained with the "
        f"loss `{config['loss']['name']}`: trial `{record.id}` of the sweep `{sweep}`.",
        "",
        *_use(texts, length),
        "",
        "## Accuracy",
        "",
        "| split | this model | dense reference | difference (points) |",
        "|---|---|---|---|",
        *_rows(_DEV, record.metrics, reference.metrics if reference else {}),
        *_test_rows(record, reference, tested),
        "",
        *_floor_lines(record, reference),
        _selection_note(record, tested),
        *(
            f"**{line}.**" if line == changed_line(seal) else f"{line}."
            for line in stamp_lines(seal)
        ),
        "",
        *_seeds_lines(record, seeds, tested),
        "## Size",
        "",
        f"- parameters: {millions(sizes.get('footprint/parameters', math.nan))}, of which "
        f"non-zero: {millions(sizes.get(NONZERO, math.nan))}",
        "- zeros in the transformer blocks: "
        f"{percent(sizes.get('footprint/encoder_sparsity', math.nan))}",
        *_packed_line(record, sizes),
        "",
        *([note, ""] if note else []),
        "## How it was made",
        "",
        "`trial.yaml` holds the whole configuration, `record.json` all measurements. "
        f"Base encoder: `{_shown(encoder)}`; task: `{config['task']['name']}`; seed: "
        f"{config['training']['seed']}. This is one training run; other seeds give other figures.",
        *(["", f"At export: {compared}."] if compared else []),
        "",
    ]
    return "\n".join(lines)


def _is_folder(encoder: str) -> bool:
    return encoder.startswith((".", "/", "~"))


def _shown(encoder: str) -> str:
    """Return an encoder's name, only the last part of a local path: cards are published."""
    return encoder.rstrip("/").rpartition("/")[2] if _is_folder(encoder) else encoder


def _base_model(encoder: str) -> list[str]:
    """Return the front matter's line for the base model, none if it is on no hub.

    A hub refuses a card whose base model is not a model id.
    """
    if encoder.startswith("tiny:") or _is_folder(encoder):
        return []
    return [f"base_model: {_PACKAGED_IDS.get(encoder, encoder).partition('@')[0]}"]


def _packed_line(record: TrialRecord, sizes: Mapping[str, float]) -> list[str]:
    """Say what rounded weights would save, where there are any."""
    if not has_rounded(record.metrics):
        return []
    packed, stored = packed_bytes(record.metrics), sizes["footprint/bytes"]
    return [
        f"- bytes: {packed / 1e6:.1f} M if rounded weights were packed into their bits; here "
        f"{stored / 1e6:.1f} M"
    ]


def _use(texts: Sequence[str], length: int) -> list[str]:
    """Return how to call the model as it was trained: order of the texts, and truncation."""
    names = [f"`{name}`" for name in texts]
    if len(names) == 2:
        what = f"It takes pairs of texts, {names[0]} first, then {names[1]}, truncated together"
        given = [f"    [{_literal(name)}]," for name in texts]
    elif names:
        what = f"It takes single texts ({names[0]} in the training data), truncated"
        given = [f"    [{_literal(texts[0])}],"]
    else:
        what = "It takes texts as its task makes them (single or in pairs), truncated"
        given = ['    ["a text"],  # for pairs, add a list of the second texts']
    return [
        f"{what} at {length} tokens as in training.",
        "",
        "```python",
        "import torch",
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer",
        "",
        'folder = "path/to/this/folder"',
        "model = AutoModelForSequenceClassification.from_pretrained(folder).eval()",
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        "inputs = tokenizer(",
        *given,
        f'    truncation=True, max_length={length}, padding=True, return_tensors="pt",',
        ")",
        "with torch.no_grad():",
        "    logits = model(**inputs).logits  # (texts, labels)",
        "print([model.config.id2label[i] for i in logits.argmax(dim=-1).tolist()])",
        "```",
        "",
        "A `transformers.pipeline` made from this folder truncates only if it is called with "
        f"`truncation=True`. Otherwise texts of more than {length} tokens are not read as in "
        "training, or fail.",
    ]


def _literal(name: str) -> str:
    return json.dumps(f"a text ({name})")


def accuracy_keys(metrics: Mapping[str, Any], roles: tuple[str, ...]) -> list[str]:
    """Return each role's accuracy, then its suites' where there is more than one; no slices."""
    found = []
    for role in roles:
        keys = [key for key in metrics if key.startswith(f"{role}/") and key.endswith("/accuracy")]
        suites = [key for key in keys if key.count("/") == 2 and "." not in key.split("/")[1]]
        found += [key for key in keys if key.count("/") == 1]
        found += suites if len(suites) > 1 else []
    return found


def _rows(
    roles: tuple[str, ...], metrics: Mapping[str, float], reference: Mapping[str, float]
) -> list[str]:
    """Return a table row for each role and suite that was measured."""
    found = []
    shown = accuracy_keys(metrics, roles)
    for key in shown:
        value, parts = metrics[key], key.split("/")
        base = reference.get(key, math.nan)
        difference = f"{100 * (value - base):+z.1f}" if math.isfinite(base) else "-"
        name = "/".join(parts[:-1])
        found.append(f"| {name} | {percent(value)} | {percent(base)} | {difference} |")
    return found


def _test_rows(
    record: TrialRecord, reference: TrialRecord | None, tested: Mapping[str, Any]
) -> list[str]:
    trials = tested.get("trials", {})
    if record.id not in trials:
        return []
    own = trials[record.id]["metrics"]
    base = trials.get(reference.id, {}).get("metrics", {}) if reference else {}
    # JSON's null is an undefined metric.
    numbers = [{k: math.nan if v is None else v for k, v in m.items()} for m in (own, base)]
    return _rows(_TEST, *numbers)


def _floor_lines(record: TrialRecord, reference: TrialRecord | None) -> list[str]:
    """Return the accuracies of the trivial baselines, to judge the model's against."""
    found = [(role, line) for role in _DEV if (line := _floor(reference, role)) is not None]
    if not found:
        return []
    reached = " and ".join(f"{percent(value)} on {role} ({name})" for role, (name, value) in found)
    note = floor_note(record, reference)
    return [f"The best trivial baseline reaches {reached}.{note and f' **{note}.**'}", ""]


def floor_note(record: TrialRecord, reference: TrialRecord | None) -> str:
    """Return where a model is no better, or hardly better, than a trivial baseline; else empty."""
    found: dict[str, list[str]] = {}
    for role in _DEV:
        line, accuracy = _floor(reference, role), record.metric(f"{role}/accuracy")
        if line is not None and not math.isnan(accuracy):
            where = f"{role} ({line[0]}: {percent(line[1])})"
            found.setdefault(standing(accuracy, line), []).append(where)
    found.pop("above", None)
    parts = [f"{how} the best trivial baseline on {' and '.join(on)}" for how, on in found.items()]
    return f"It is {', and '.join(parts)}" if parts else ""


def _floor(reference: TrialRecord | None, role: str) -> tuple[str, float] | None:
    return best_line(reference_lines([reference] if reference is not None else []), role)


def _selection_note(record: TrialRecord, tested: Mapping[str, Any]) -> str:
    if not tested:
        chosen = "The dev splits chose this model among the sweep's trials, so its dev figures "
        if not has_test([record]):
            return f"{chosen}flatter it, and the task has no test split to show by how much."
        return f"{chosen}flatter it. The sealed test splits were not opened."
    return seal_note(record.id, tested) or (
        "The dev splits chose this model, so its dev figures flatter it; the test splits were "
        "opened after selection."
    )


def seal_note(trial_id: str, tested: Mapping[str, Any]) -> str:
    """Return why test figures may be no test of a model, empty where they are or none were seen.

    Beside what was selected the rows it is compared with are opened (dense, vanilla; in a fixed
    design all): whoever takes one of these has seen its test figures, or could have.

    Args:
        trial_id: of the model that is taken.
        tested: content of test.json, empty where the test roles were not opened.
    """
    if not tested:
        return ""
    first = (tested.get("openings") or [tested])[0]["selection"]
    if tested["design"] == "fixed":
        why = "Nothing was selected when the sealed test was opened for every row"
    elif trial_id not in first:
        why = "This model was not among those that the sealed test was opened for"
    else:
        return ""
    return (
        f"{why}: it is taken with the test in sight. If test figures influenced this choice, they "
        "do not test this model."
    )


def _seeds_lines(
    record: TrialRecord, seeds: Mapping[str, Any] | None, tested: Mapping[str, Any]
) -> list[str]:
    """Return the results of this configuration over training seeds: what to expect of it."""
    if seeds is None or not seeds["seeds"]:
        return []
    rows = [("dev", seeds["estimates"], ("id_dev/accuracy", "ood_dev/accuracy"))]
    row = next((r for r in tested.get("rows", ()) if r["id"] == record.id), None)
    if row is not None and len(row["seeds"]) > 1:
        rows.append(("sealed test", row["accuracy"], ("id", "ood")))
    return [
        "### Over training seeds",
        "",
        f"The same configuration with {len(seeds['seeds'])} seeds: mean and 95 % interval. "
        "Expect these figures of it, rather than those of this one run.",
        "",
        "| split | in distribution | out of distribution |",
        "|---|---|---|",
        *(
            f"| {name} | {_span(found.get(inside))} | {_span(found.get(outside))} |"
            for name, found, (inside, outside) in rows
        ),
        "",
    ]


def _span(found: Mapping[str, Any] | None) -> str:
    if found is None or found["mean"] is None:
        return "-"
    if found["low"] is None:
        return percent(found["mean"])
    return f"{100 * found['mean']:.1f} % ({100 * found['low']:.1f} to {100 * found['high']:.1f})"
