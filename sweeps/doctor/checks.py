"""`rc-sweep doctor`: whether this machine can run sweeps, and if not, what to do about it.

Every check says what it found and, if something is wrong, what to do. Slow checks (loading torch,
starting Ray, network requests) run in parallel, in processes and threads.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rc_core.errors import InputError, ModelError
from sweeps.config import SweepConfig, load_sweep
from sweeps.cores import usable_cores
from sweeps.doctor.services import Finding, check_hub, check_mlflow, check_ray, check_torch
from sweeps.doctor.storage import check_folder, nearest_folder, with_address
from sweeps.local_port import why_not_free
from sweeps.storages import storage_root

_MAIN = ("torch", "transformers", "ray", "optuna", "mlflow", "numpy", "pydantic", "datasets")
_PYTHONS = ((3, 11), (3, 13))
_CGROUP = Path("/sys/fs/cgroup")
_LEAST_MEMORY, _LEAST_DISK, _LEAST_SHARED, _LEAST_FILES = 2e9, 5e9, 2e8, 1024
# Leases and time stamps are compared across machines: seconds matter, fractions do not.
_MOST_SKEW = 2.0


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        state: ok; note (works, but worth knowing); problem (a sweep would fail or mislead).
        found: what was found.
        advice: what to do; empty if nothing needs to be done.
    """

    name: str
    state: Literal["ok", "note", "problem"]
    found: str
    advice: str = ""


def examine(
    config: Path | None = None,
    *,
    overrides: Sequence[str] = (),
    storage: str | Path | None = None,
    address: str = "local",
    port: int = 5000,
) -> list[Check]:
    """Check everything a sweep needs.

    Args:
        config: a sweep's YAML, so that its model, size and tracking server are checked too.
        overrides: as `--set`.
        storage: folder of all sweeps; by default as for any command.
        address: as for `launch`; for a cluster, only whether it answers is checked.
        port: of `rc-sweep ui`.
    """
    # A hub that does not answer must not delay the other checks.
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        os.environ.setdefault(name, "3")
    with ThreadPoolExecutor() as pool:
        torch, ray = pool.submit(check_torch), pool.submit(check_ray, address)
        first, sweep = _configuration(config, overrides)
        root = storage_root(storage or (sweep.settings.storage if sweep else None))
        uri = sweep.settings.tracking.uri if sweep else None
        hub = pool.submit(check_hub, sweep)
        tracking = pool.submit(check_mlflow, uri, root)
        jobs: list[tuple[str, Callable[[], Finding]]] = [
            ("python", _python),
            ("versions", _versions),
            ("cores", lambda: _cores(sweep)),
            ("memory", _memory),
            ("device", lambda: _device(torch.result(), sweep)),
            ("storage", lambda: with_address(root, check_folder(root))),
            ("disk", lambda: _disk(root, sweep)),
            ("clock", lambda: _clock(root)),
            ("limits", _limits),
            ("hub", hub.result),
            ("mlflow", tracking.result),
            ("ui port", lambda: _port(port)),
            ("ray", ray.result),
        ]
        return [*first, *(_checked(name, job) for name, job in jobs)]


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the checks as plain JSON values."""
    return {"healthy": healthy(checks), "checks": [asdict(check) for check in checks]}


def healthy(checks: Sequence[Check]) -> bool:
    """Tell whether no check found a problem."""
    return all(check.state != "problem" for check in checks)


def as_text(checks: Sequence[Check]) -> str:
    """Return the checks as text, each with its advice below it."""
    width = max(len(check.name) for check in checks)
    marks = {"ok": "ok  ", "note": "note", "problem": "BAD "}
    lines = []
    for check in checks:
        lines.append(f"{marks[check.state]}  {check.name:<{width}}  {check.found}")
        if check.advice:
            lines.append(f"      {'':<{width}}  -> {check.advice}")
    bad = sum(check.state == "problem" for check in checks)
    lines.append(f"{bad} problem{'s' * (bad != 1)}" if bad else "no problem found")
    return "\n".join(lines)


def _checked(name: str, job: Callable[[], Finding]) -> Check:
    """Run one check; an error in it is itself a finding, and the others go on."""
    try:
        return Check(name, *job())
    except Exception as error:
        return Check(name, "problem", f"could not be checked: {type(error).__name__}: {error}")


def _configuration(
    config: Path | None, overrides: Sequence[str]
) -> tuple[list[Check], SweepConfig | None]:
    if config is None:
        return [], None
    try:
        sweep = load_sweep(config, overrides)
    except InputError as error:
        shown = "; ".join(str(problem) for problem in error.problems)
        advice = f"correct {config}; rc-sweep validate {config} lists these problems too"
        return [Check("config", "problem", shown, advice)], None
    return [Check("config", "ok", f"{config} is valid")], sweep


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if not _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]:
        return "problem", found, "install Python 3.11, 3.12 or 3.13"
    return "ok", found, ""


def _versions() -> Finding:
    tested, found, old, missing = _tested(), [], [], []
    for name in _MAIN:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        # A build of the same release (2.13.0+cpu) is the same version.
        plain = version.partition("+")[0]
        found.append(f"{name} {version}")
        if name in tested and plain != tested[name]:
            old.append(f"{name} {version}, tested with {tested[name]}")
    if missing:
        advice = "install this project again, in its checkout: pip install -c constraints.txt ."
        return "problem", f"not installed: {', '.join(missing)}", advice
    if old:
        return "note", "; ".join(old), "for the tested versions: pip install -c constraints.txt ..."
    known = "all as tested" if tested else "the tested versions are not known here"
    return "ok", f"{known}: {', '.join(found)}", ""


def _tested() -> dict[str, str]:
    """Return package -> version of constraints.txt: inside the wheel, or the checkout's."""
    inside = Path(__file__).parents[1] / "_constraints.txt"
    path = inside if inside.is_file() else Path(__file__).parents[2] / "constraints.txt"
    if not path.is_file():
        return {}
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", path.read_text(), re.MULTILINE))


def _cores(sweep: SweepConfig | None) -> Finding:
    cores, usable = os.cpu_count() or 1, usable_cores()
    found = f"{usable} usable"
    found += f" of {cores} (CPU affinity, or a container's limit)" if usable < cores else ""
    wanted = sweep.settings.resources.cpu if sweep else 1
    threads = os.environ.get("OMP_NUM_THREADS")
    found += f", OMP_NUM_THREADS={threads}" if threads else ""
    if wanted > usable:
        advice = f"lower it: --set resources.cpu={usable}"
        return "problem", f"{found}; a trial asks for {wanted:g}", advice
    return "ok", found, ""


def _memory() -> Finding:
    free = _free_memory()
    if free is None:
        return "note", "not known on this system", ""
    found = f"{free / 1e9:.1f} GB available"
    if free < _LEAST_MEMORY:
        return "problem", found, "end other programs: a worker with torch takes about 1 GB"
    return "ok", found, ""


def _free_memory() -> float | None:
    """Return the bytes that may still be used, within a container's limit."""
    found, group = None, _CGROUP
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = 1024.0 * next(int(x.split()[1]) for x in lines if x.startswith("MemAvailable"))
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            stat = (group / "memory.stat").read_text().splitlines()
            # The page cache counts as used but is freed when memory is needed.
            cached = next(
                (float(x.split()[1]) for x in stat if x.startswith("inactive_file ")), 0.0
            )
            used = float((group / "memory.current").read_text()) - cached
            found = min(found, float(limit) - used)
    return found


def _device(facts: dict[str, Any], sweep: SweepConfig | None) -> Finding:
    if "error" in facts:
        return "problem", f"torch does not load: {facts['error']}", "install torch again"
    gpus, wanted = facts["gpus"], sweep.settings.resources.gpu if sweep else 0
    found = ", ".join(gpus) if gpus else f"CPU only ({facts['capability']})"
    found += f"; torch uses {facts['threads']} threads"
    if wanted and not gpus:
        advice = "run on a machine with a GPU, or --set resources.gpu=0"
        return "problem", f"{found}; a trial asks for {wanted:g} GPU", advice
    if gpus and sweep is not None and not wanted:
        return "note", found, "trials of this configuration use none: --set resources.gpu=1"
    return "ok", found, ""


def _disk(root: Path, sweep: SweepConfig | None) -> Finding:
    free = shutil.disk_usage(nearest_folder(root)).free
    found, need = f"{free / 1e9:.0f} GB free", _LEAST_DISK
    if sweep is not None:
        from rc_core.model_facts import model_facts

        with suppress(ModelError):
            weights = 4 * model_facts(sweep.base["model"]).num_parameters
            trials = sweep.settings.search.trials
            at_once = usable_cores() / sweep.settings.resources.cpu
            # Weights are kept; a running trial also has a checkpoint (with two moments).
            need = trials * weights + 3 * weights * min(trials, max(at_once, 1))
            found += f", the sweep needs about {need / 1e9:.1f} GB"
    if free < need:
        return "problem", found, "free space, choose another --storage, or lower search.trials"
    return "ok", found, ""


def _clock(root: Path) -> Finding:
    with tempfile.NamedTemporaryFile(prefix=".rc-doctor-", dir=nearest_folder(root)) as stream:
        skew = Path(stream.name).stat().st_mtime - time.time()
    newest = max(_stamps(root), default=0.0) - time.time()
    year = time.gmtime().tm_year
    if year < 2026 or newest > 60:
        what = f"it says {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC"
        what += f", but records are {newest:.0f} s newer" if newest > 60 else ""
        return "problem", what, "set the clock (NTP): time stamps order events"
    if abs(skew) > _MOST_SKEW:
        advice = "keep both machines on NTP: leases and time stamps are compared"
        return "note", f"the storage's clock differs by {skew:+z.1f} s", advice
    return "ok", "agrees with the storage's", ""


def _stamps(root: Path) -> Iterator[float]:
    for path in root.glob("*/attempt.json"):
        with suppress(OSError):
            yield path.stat().st_mtime


def _limits() -> Finding:
    """Check Ray's other needs: open files, shared memory, and a short temporary path."""
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    found = [f"{files} open files"]
    shared = Path("/dev/shm")
    free = shutil.disk_usage(shared).free if shared.is_dir() else None
    found += [f"{free / 1e9:.1f} GB of shared memory"] if free is not None else []
    if files < _LEAST_FILES:
        return "problem", ", ".join(found), "ulimit -n 65536"
    if free is not None and free < _LEAST_SHARED:
        return "note", ", ".join(found), "in a container: --shm-size=2g, else Ray uses the disk"
    if len(tempfile.gettempdir()) > 60:
        return "problem", f"the path {tempfile.gettempdir()} is too long for sockets", "set TMPDIR"
    return "ok", ", ".join(found), ""


def _port(port: int) -> Finding:
    reason = why_not_free(port)
    if reason is not None:
        return "note", f"{port}: {reason}", "rc-sweep ui SWEEP --port 5001"
    return "ok", f"{port} is free", ""
