"""Does `resources: auto` choose what is fastest? The same sweep at each hand-set number of threads.

    python -m tests.benchmarks.packing [--model packaged:all-MiniLM-L6-v2] [--trials 4]

All sweeps share one storage, so that the teacher is built once, before the first. The time of a
sweep is that from its first trial's start to its last trial's end, by the records.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rc_core.yaml_files import read_yaml

CONFIG = """
model: MODEL
task: {name: shortcut_nli, seed: 0, train_size: 1200, dev_size: 200, test_size: 200}
training: {epochs: 1, rungs: 1, max_length: 64, precision: fp32}
compression: {name: magnitude}
space: {compression.sparsity: {uniform: [0.3, 0.7]}}
search: {name: random, trials: TRIALS, seed: 0}
health_gate: warn
"""


def span(folder: Path) -> float:
    """Return the seconds from the first trial's start to the last one's end."""
    files = (folder / "trials").glob("*/record.json")
    records = [json.loads(file.read_text()) for file in files]
    trials = [record for record in records if not record["reference"]]
    assert all(record["status"] == "finished" for record in trials)
    return float(max(r["finished"] for r in trials) - min(r["started"] for r in trials))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="packaged:all-MiniLM-L6-v2")
    parser.add_argument("--trials", type=int, default=4)
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    threads = [cores]
    while threads[-1] > 1:
        threads.append((threads[-1] + 1) // 2)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        config = Path(name) / "sweep.yaml"
        text = CONFIG.replace("MODEL", options.model)
        config.write_text(text.replace("TRIALS", str(options.trials + 1)))
        found: dict[str, float] = {}
        for way in ("auto", *(f"{{cpu: {each}}}" for each in threads)):
            sweep = "".join(letter for letter in way if letter.isalnum())
            command = [sys.executable, "-m", "sweeps.cli", "launch", str(config), "--name", sweep]
            done = subprocess.run(
                [*command, "--storage", name, "--set", f"resources={way}"],
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            found[way] = span(Path(name) / sweep)
            for line in done.stdout.splitlines():
                if "packing: each" in line:
                    print(line)
            print(f"{way}: {found[way]:.1f} s for {options.trials} trials", flush=True)
        assert read_yaml(Path(name) / "auto" / "sweep.yaml")["resources"]["auto"]
        best = min(seconds for way, seconds in found.items() if way != "auto")
        print(f"auto against the best hand-set: {found['auto'] / best:.3f}")


if __name__ == "__main__":
    main()
