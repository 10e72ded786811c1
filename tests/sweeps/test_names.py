"""Which names a user may give a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from rc_core.errors import InputError, StorageError
from rc_core.yaml_files import merge
from sweeps.config import SweepConfig
from sweeps.engine.adopt import adopt_new
from sweeps.engine.launch_check import check_launch
from sweeps.names import as_stem, check_new
from tests.sweeps.test_config import RAW


def test_a_name_that_would_be_read_as_anothers_confirmation_is_for_rc_sweep_confirm(
    tmp_path: Path,
) -> None:
    refused = pytest.raises(StorageError, match=r"must not end in '\.confirm'.*another --name")
    with refused:
        check_new(tmp_path, "mine.confirm")
    with refused:
        check_new(tmp_path, "mine.confirm", confirms="yours")
    check_new(tmp_path, "mine.confirm", confirms="mine")
    check_new(tmp_path, "mine.confirmed")
    with refused:
        check_launch(SweepConfig(RAW), tmp_path, stem="x", name="mine.confirm", address="local")
    with refused:
        adopt_new(SweepConfig(RAW), "mine.confirm", tmp_path, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_wrong_name_hides_no_wrong_data(tmp_path: Path) -> None:
    files = {"name": "files", "data_dir": str(tmp_path), "text": "a", "labels": ["x", "y"]}
    sweep = SweepConfig(
        RAW
        | {"task": files | {"roles": {"train": "no.csv", "ood_dev": {"s": "no.csv"}}}}
        | {"search": {"warm_start": ["gone"]}}
    )
    with pytest.raises(InputError) as caught:
        check_launch(sweep, tmp_path, stem="x", name="my sweep", address="local")
    name, earlier, *data = map(str, caught.value.problems)
    assert "but got 'my sweep'" in name and len(data) == 2 and "no.csv" in data[0]
    assert "gone" in earlier


def test_a_name_that_is_too_long_is_told_as_that(tmp_path: Path) -> None:
    check_new(tmp_path, "a" * 100)
    with pytest.raises(StorageError, match=r"must have at most 100 characters, but 'a.*' has 130"):
        check_new(tmp_path, "a" * 130)
    with pytest.raises(StorageError, match="has 130; give a shorter one with --name"):
        as_stem("b" * 130)


def test_a_confirmation_may_be_launched_under_its_name(tmp_path: Path) -> None:
    changes = {
        "design": "fixed",
        "space": {},
        "task": {"name": "shortcut_nli", "train_size": 100, "dev_size": 60, "test_size": 60},
        "search": {"name": "race", "points": [{"loss.name": "distil"}]},
        "confirm": {"sweep": "mine"},
    }
    sweep = SweepConfig(merge({k: v for k, v in RAW.items() if k != "space"}, changes))
    # Its name is right; what it confirms is not there.
    with pytest.raises(StorageError, match="finished trial of mine, but these are none: t0001"):
        check_launch(sweep, tmp_path, stem="x", name="mine.confirm", address="local")


def test_a_folder_that_is_no_sweep_is_told_as_that(tmp_path: Path) -> None:
    """A launch that was killed as it began may have left an empty one: no resume finds it."""
    (tmp_path / "mine").mkdir()
    with pytest.raises(StorageError, match=r"mine exists and is not a sweep; choose .* move it"):
        check_new(tmp_path, "mine")
