"""Where the time goes: operations of one trial's training, stages of a whole sweep.

    python -m tests.benchmarks.profiles                   one trial of MiniLM on FEVER pairs
    python -m tests.benchmarks.profiles --sweep DIR       a finished sweep's stages, from its files

Operations are torch's own, by the processor time of a single thread spent in each itself.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from rc_core.record import TrialFolder, read_records
from rc_core.trial import run_trial
from rc_core.workspace import Workspace
from tests.benchmarks import _harness as harness
from tests.benchmarks import _setup as setup

# torch's operators, by what they are for.
GROUPS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "copies": ("aten::copy_", "aten::cat", "aten::clone"),
    "activation": ("aten::gelu", "aten::gelu_backward"),
    "softmax": ("aten::_softmax", "aten::_softmax_backward_data", "aten::_log_softmax"),
    "layer norm": ("aten::native_layer_norm", "aten::native_layer_norm_backward"),
    "optimizer and clipping": (
        "aten::_fused_adamw_",
        "aten::linalg_vector_norm",
        "aten::_foreach_norm",
        "aten::_foreach_mul_",
    ),
    "multiplications (dropout, masks)": ("aten::mul", "aten::mul_", "aten::ge"),
    "attention of evaluation": ("aten::_scaled_dot_product_flash_attention_for_cpu",),
}


def operations(model: str, pairs: int, dev: int, folder: Path) -> dict[str, float]:
    """Return the microseconds of each group of operators in one pruned trial."""
    task = setup.fever(folder / "data", train=pairs, dev=dev)
    config = setup.trial(model, task, compression={"name": "magnitude", "sparsity": 0.5})
    workspace = Workspace(folder / "artifacts")
    run_trial(config, workspace, TrialFolder(folder / "warm"), trial_id="t0001")
    with profile(activities=[ProfilerActivity.CPU]) as found:
        run_trial(config, workspace, TrialFolder(folder / "measured"), trial_id="t0002")
    group_of = {name: group for group, names in GROUPS.items() for name in names}
    spent: dict[str, float] = defaultdict(float)
    for event in found.key_averages():
        spent[group_of.get(event.key, "everything else")] += event.self_cpu_time_total
    return spent


def stages(sweep: Path) -> dict[str, float]:
    """Return the seconds of each stage of a sweep: artifacts by kind, trials by part."""
    spent: dict[str, float] = defaultdict(float)
    records = read_records(sweep / "trials")
    used = {
        key for record in records for keys in record.artifacts.values() for key in keys.split("+")
    }
    for path in (sweep.parent / "artifacts").glob("*/*/artifact.json"):
        manifest: dict[str, Any] = json.loads(path.read_text())
        if manifest["key"] in used:
            spent[f"preparation: {manifest['kind']}"] += manifest["seconds"]
    for record in records:
        if not record.reference:
            parts = {name: record.seconds.get(name, 0.0) for name in ("train", "evaluate")}
            for name, value in parts.items():
                spent[f"trials: {name}"] += value
            rest = record.seconds.get("total", 0.0) - sum(parts.values())
            spent["trials: everything else"] += rest
    return spent


def table(spent: Mapping[str, float], what: str) -> str:
    """Return the shares as Markdown, largest first."""
    total = sum(spent.values())
    lines = [f"| {what} | share |", "|---|---|"]
    largest = sorted(spent.items(), key=lambda item: -item[1])
    lines += [f"| {name} | {100 * value / total:.1f} % |" for name, value in largest]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark from the command line."""
    given = harness.options(__doc__, model=setup.MINILM, pairs=192, dev=60, sweep="")
    torch.set_num_threads(1)
    if given.sweep:
        spent = stages(Path(given.sweep))
        harness.say(__doc__, f"{sum(spent.values()):.0f} s of stages.", table(spent, "stage"))
        return
    with tempfile.TemporaryDirectory() as name:
        spent = operations(given.model, given.pairs, given.dev, Path(name))
    harness.say(__doc__, f"{given.model}, {given.pairs} pairs.", table(spent, "operations"))


if __name__ == "__main__":
    main()
