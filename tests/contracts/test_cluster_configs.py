"""The files under tune_configs/cluster/: each is read by what will read it, as far as that is here.

The launcher file is checked against Ray's own schema, and every rc-sweep command against our own
command line. Nothing here starts a cluster.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from sweeps.cli import app

FOLDER = Path(__file__).resolve().parents[2] / "tune_configs" / "cluster"
LAUNCHER, KUBERAY, SLURM = (FOLDER / name for name in ("ray.yaml", "kuberay.yaml", "slurm.sh"))


def header(path: Path) -> str:
    """Return the leading comment, continuation lines joined."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#! "))
    return "\n".join(lines).replace("\\\n", " ")


def rc_sweep_commands(text: str) -> Iterator[list[str]]:
    for found in re.finditer(r"rc-sweep ((?:launch|resume) [^`\n]+)", text):
        words = shlex.split(found.group(1))
        if words[1:2] != ["..."]:
            yield words


def parse(words: list[str]) -> dict[str, Any]:
    """Read a command line as rc-sweep would, without running it; return its values."""
    group: Any = typer.main.get_command(app)
    values: dict[str, Any] = group.commands[words[0]].make_context(words[0], words[1:]).params
    return values


def test_all_files_are_known_here() -> None:
    assert sorted(FOLDER.iterdir()) == sorted([LAUNCHER, KUBERAY, SLURM])


@pytest.mark.parametrize("path", [LAUNCHER, KUBERAY], ids=lambda path: path.name)
def test_each_command_is_one_of_ours_and_joins_the_cluster(path: Path) -> None:
    commands = list(rc_sweep_commands(path.read_text().replace("\\\n#", " ")))
    assert commands
    for words in commands:
        values = parse(words)
        assert values["address"] == "auto"
        assert Path(values["storage"]).parts[:2] == ("/", "shared")


def test_the_launcher_file_fits_rays_schema() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    values = yaml.safe_load(LAUNCHER.read_text())
    prepared = prepare_config(values)
    validate_config(prepared)
    (kind,) = prepared["available_node_types"].values()
    assert kind["min_workers"] == kind["max_workers"] == len(values["provider"]["worker_ips"])
    starts = [*values["head_start_ray_commands"], *values["worker_start_ray_commands"]]
    assert sum("ray start" in command for command in starts) == 2
    for line in header(LAUNCHER).splitlines():
        if line.strip().startswith("ray "):
            assert shlex.split(line.split("  ")[-1])


def test_the_kuberay_job_mounts_one_storage_on_every_pod() -> None:
    job = yaml.safe_load(KUBERAY.read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    (words,) = rc_sweep_commands(spec["entrypoint"])
    storage = Path(parse(words)["storage"])
    cluster = spec["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    for pod in pods:
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert any(storage.is_relative_to(path) for path in mounts.values())
        assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
        assert container["resources"]["limits"] == container["resources"]["requests"]
    assert pods[0]["volumes"] == pods[1]["volumes"]
    assert len({pod["containers"][0]["image"] for pod in pods}) == 1
    worker = cluster["workerGroupSpecs"][0]
    assert 1 <= worker["minReplicas"] <= worker["replicas"] <= worker["maxReplicas"]
    assert spec["shutdownAfterJobFinishes"] is True and spec["backoffLimit"] == 0


def test_the_kuberay_job_names_the_tested_ray() -> None:
    pins = (FOLDER.parents[1] / "constraints.txt").read_text()
    version = yaml.safe_load(KUBERAY.read_text())["spec"]["rayClusterSpec"]["rayVersion"]
    assert f"\nray=={version}\n" in pins


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_slurm_script_parses() -> None:
    done = subprocess.run(["bash", "-n", str(SLURM)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


STUBS = {
    "scontrol": 'printf "node1\\nnode2\\n"',
    # Drops srun's own options, and takes the node that was asked for as the name of the machine.
    "srun": "while [[ $1 == --* ]]; do\n"
    "[[ $1 == --nodelist=* ]] && export NODE=${1#*=}\nshift\ndone\n"
    'exec "$@"',
    "hostname": "echo 127.0.0.1 fe80::1",
    "ray": 'echo "$NODE ray $*" >> "$CALLS"\n[[ $1 == start ]] && exec sleep 60\nexit 0',
    "rc-sweep": 'echo "rc-sweep $*" >> "$CALLS"\n'
    # The head writes its line beside what goes on meanwhile, as the worker does.
    'until grep -q ^node1 "$CALLS" && grep -q ^node2 "$CALLS"; do sleep 0.1; done\nexit 3',
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_slurm_script_starts_a_head_and_workers_and_passes_the_exit_code_on(
    tmp_path: Path,
) -> None:
    """Slurm's commands, Ray's and ours are replaced by ones that write down their arguments."""
    folder = tmp_path / "venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "activate").write_text(f'export PATH="{folder}:$PATH"\n')
    for name, body in STUBS.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (folder / name).chmod(0o755)
    calls = tmp_path / "calls"
    environment: dict[str, Any] = {
        "PATH": "/usr/bin:/bin", "VENV": str(folder.parent), "PORT": "7001", "CALLS": str(calls),
        "NODE": "here", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_CPUS_PER_TASK": "4",
        "SLURM_GPUS_ON_NODE": "2",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", str(SLURM), "launch", "a b.yaml", "--storage", "s"],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    lines = calls.read_text().splitlines()
    held = "start --block --num-cpus=4 --num-gpus=2"
    head = f"node1 ray {held} --head --node-ip-address=127.0.0.1 --port=7001"
    assert f"{head} --include-dashboard=false" in lines
    assert f"node2 ray {held} --address=127.0.0.1:7001" in lines
    assert "rc-sweep launch a b.yaml --storage s --address 127.0.0.1:7001" in lines
