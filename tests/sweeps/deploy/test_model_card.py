"""What the model card says of size, speed and input."""

from __future__ import annotations

from typing import Any

import pytest

from rc_core import plugins
from rc_core.config import TrialConfig, decode
from rc_core.errors import ConfigError
from rc_core.record import TrialRecord
from sweeps.deploy.export import stock_note
from sweeps.deploy.model_card import floor_note, model_card
from sweeps.deploy.texts import text_names
from tests.rc_core._plugins import WHOLE, WrittenPlugins, written

__all__ = ["written"]


def record_of(config: TrialConfig, metrics: dict[str, float] | None = None) -> TrialRecord:
    return TrialRecord(
        id="t0001",
        status="finished",
        name=config.label(),
        config=config.as_dict(),
        fingerprint=config.fingerprint(),
        started=0.0,
        metrics=metrics or {},
    )


def card(compression: dict[str, Any], **options: Any) -> str:
    config = decode({"model": "tiny:bert", "compression": compression})
    return model_card("made", record_of(config), None, {}, note=stock_note(config), **options)


@pytest.mark.parametrize(
    ("inside", "outside", "below"),
    [
        (0.9, 0.6, ""),
        (0.9, 0.5, "no better than the best trivial baseline on ood_dev (chance: 50.0 %)"),
        (0.9, 0.51, "hardly above the best trivial baseline on ood_dev (chance: 50.0 %)"),
        (
            0.77,
            0.4,
            "hardly above the best trivial baseline on id_dev (bag of words: 76.5 %), and "
            "no better than the best trivial baseline on ood_dev (chance: 50.0 %)",
        ),
        (
            0.7,
            0.4,
            "no better than the best trivial baseline on id_dev (bag of words: 76.5 %) and "
            "ood_dev (chance: 50.0 %)",
        ),
    ],
)
def test_trivial_baselines_stand_beside_the_accuracies(
    inside: float, outside: float, below: str
) -> None:
    lines = {"id_dev": {"chance": 0.5, "bag_of_words": 0.765}, "ood_dev": {"chance": 0.5}}
    config = decode({"model": "tiny:bert"})
    own = record_of(config, {"id_dev/accuracy": inside, "ood_dev/accuracy": outside})
    reference = own.model_copy(update={"reference": True, "data": {"floors": lines}})
    said = f"It is {below}" if below else ""
    assert floor_note(own, reference) == said
    text = model_card("made", own, reference, {})
    told = "The best trivial baseline reaches 76.5 % on id_dev (bag of words) and 50.0 % on ood_dev"
    assert told in text and (f"**{said}.**" in text) == bool(below)
    assert floor_note(own, None) == "" and "trivial baseline" not in model_card("m", own, None, {})


def test_what_rounded_weights_would_save_is_told_where_there_are_any() -> None:
    sizes = {"parameters": 2e6, "nonzero_parameters": 2e6, "bytes": 8e6}
    config = decode({"model": "tiny:bert", "compression": {"name": "quantized", "bits": 4}})
    own = record_of(config, {f"footprint/{name}": value for name, value in sizes.items()})
    text = model_card("made", own, None, {}, note=stock_note(config))
    assert "bytes:" not in text and "symmetric 4-bit weights" in text and "max|w| / 7" in text
    own.metrics["footprint/packed_bytes"] = 2.5e6
    text = model_card("made", own, None, {})
    assert "- bytes: 2.5 M if rounded weights were packed into their bits; here 8.0 M" in text
    own.metrics["footprint/packed_bytes"] = 8e6
    assert "bytes:" not in model_card("made", own, None, {})


def test_how_a_pipeline_cuts_is_told() -> None:
    text = card({"name": "dense"}, length=40)
    assert "called with `truncation=True`. Otherwise texts of more than 40 tokens" in text


@pytest.mark.parametrize(
    ("compression", "told", "wrong"),
    [
        ({"name": "magnitude"}, "not smaller than the dense one", "on every runtime"),
        (
            {"name": "semistructured"},
            "This is the pattern of the sparse tensor",
            "on every runtime",
        ),
        ({"name": "semistructured", "nonzero": 3}, "2 of 4, which this is not", "to_sparse"),
        ({"name": "heads", "remove": 0.2}, "not smaller or faster", "on every runtime"),
        ({"name": "ffn"}, "smaller and faster it is, on every runtime", "zeros at any place"),
        ({"name": "student", "num_layers": 1}, "smaller and faster it is, on every", "zeros at"),
        ({"name": "student", "model": "tiny:electra"}, "made of tiny:electra", "zeros at"),
        ({"name": "dense"}, "zeros in the transformer blocks", "faster"),
    ],
)
def test_each_compression_says_its_own(compression: dict[str, Any], told: str, wrong: str) -> None:
    text = card(compression)
    assert told in text and wrong not in text


def test_the_encoder_is_that_of_the_student() -> None:
    text = card({"name": "student", "model": "tiny:electra"})
    assert "base_model" not in text and "Base encoder: `tiny:electra`" in text


@pytest.mark.parametrize(
    ("model", "line", "shown"),
    [
        ("packaged:all-MiniLM-L6-v2", "base_model: sentence-transformers/all-MiniLM-L6-v2", None),
        ("google/electra-small@4f2a", "base_model: google/electra-small", None),
        ("/x/secret/encoder", None, "encoder"),
        ("tiny:bert", None, None),
    ],
)
def test_the_base_model_is_what_a_hub_knows_and_no_folder_of_this_machine(
    model: str, line: str | None, shown: str | None
) -> None:
    record = record_of(decode({"model": "tiny:bert"}))
    own = record.model_copy(update={"config": {**record.config, "model": model}})
    text = model_card("made", own, None, {})
    found = [each for each in text.splitlines() if each.startswith("base_model")]
    assert found == ([line] if line else [])
    assert f"Base encoder: `{shown or model}`;" in text and "secret" not in text


def test_a_task_of_unknown_shape_is_not_called_pairs() -> None:
    text = card({"name": "dense"}, length=40)
    assert "max_length=40" in text and "(single or in pairs)" in text


@pytest.mark.parametrize(
    ("task", "columns", "names"),
    [
        ({"name": "files", "text": ["a", "b"]}, None, ("a", "b")),
        ({"name": "files", "text": ["a"]}, 1, ("a",)),
        ({"name": "mine", "text": "words"}, None, ("words",)),
        ({"name": "shortcut_nli"}, None, ("premise", "hypothesis")),
        ({"name": "mine"}, None, ()),
        ({"name": "mine"}, 1, ("first text",)),
        ({"name": "mine", "text": "words"}, 2, ("first text", "second text")),
    ],
)
def test_what_texts_are_called(
    task: dict[str, Any], columns: int | None, names: tuple[str, ...]
) -> None:
    assert text_names(task, columns) == names


def test_every_task_of_ours_says_what_its_texts_are() -> None:
    """But `files`, whose section names the columns."""
    names = [name for name in plugins.available("rc_core.data") if name != "files"]
    assert [name for name in names if len(text_names({"name": name})) != 2] == []
    # The module of the task says so: the evidence is the first text, wherever it comes from.
    assert text_names({"name": "fever"}) == ("evidence", "claim")


def test_a_new_tasks_file_says_what_its_texts_are(written: WrittenPlugins) -> None:
    source = WHOLE["rc_core.data"]
    written.write("rc_core.data", f'{source}\n\nTEXTS = ("question", "passage")\n')
    names = text_names({"name": "mine"})
    assert names == ("question", "passage")
    text = card({"name": "dense"}, texts=names)
    assert "`question` first, then `passage`" in text and '["a text (passage)"]' in text
    written.write("rc_core.data", source)
    assert text_names({"name": "mine"}) == ()


@pytest.mark.parametrize("wrong", ['"question"', '("a", "b", "c")', "()", '("a", 1)'])
def test_names_that_are_none_are_told(written: WrittenPlugins, wrong: str) -> None:
    written.write("rc_core.data", f"{WHOLE['rc_core.data']}\n\nTEXTS = {wrong}\n")
    with pytest.raises(ConfigError, match=r"mine\.py.* TEXTS must be a tuple of one"):
        plugins.load("rc_core.data", "mine")
