"""Named parts of a public data set: a local file, or a pinned revision on a data hub.

A part states where its rows are in both forms; the task's `data_dir` decides which one is read.
Labels are checked against what the file or the hub says they mean, never assumed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray
from pydantic import Field, field_validator

from rc_core.config import PluginConfig, Seed
from rc_core.data._sources import DataFile, label_ids, raw_label, read_columns, texts
from rc_core.errors import DataError, Problem
from rc_core.schema import Section


class Part(Section):
    """Where one file of a task is; any key may be overridden on its own.

    Attributes:
        file: below `data_dir`, or an absolute path, which is read with or without `data_dir`.
        text: its two text columns.
        label: its label column.
        hub: data set id on the hub; null if there is none.
        subset: the hub's configuration.
        split: the hub's split.
        revision: commit or branch on the hub; null takes the newest (not reproducible).
        hub_text: the two text columns on the hub.
        hub_label: the label column on the hub.
    """

    file: DataFile
    text: tuple[str, str] = ("sentence1", "sentence2")
    label: str = "label"
    hub: str | None = None
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    hub_text: tuple[str, str] = ("sentence1", "sentence2")
    hub_label: str = "label"


def overriding(default: Part) -> Callable[[Any], Any]:
    """Return a validator that fills in the keys that are not given from `default`."""

    def merged(value: Any) -> Any:
        if isinstance(value, str):
            value = {"file": value}
        if isinstance(value, Mapping):
            # Plain values, as they would come from YAML.
            return default.model_dump() | dict(value)
        return value

    return merged


# Synonyms: PAWS calls QQP's duplicates paraphrases.
_SAME = {"paraphrase": "duplicate", "notparaphrase": "notduplicate"}

_COMMIT = re.compile(r"[0-9a-f]{40}")
# A commit within an address on the hub, or within a folder of the cache.
_IN_ADDRESS = re.compile(r"[@/\\]([0-9a-f]{40})[/\\]")


class PublicConfig(PluginConfig):
    """What every task of a public data set has.

    Attributes:
        data_dir: folder of local files; null for the data hub. A relative one is made absolute
            right away, because workers, and a later `test`, run in other folders.
        seed: for carving id_dev and for every limit.
        limit: number of training samples, in which labels keep their shares; null keeps all.
        allow_overlap: accept that more than 5 % of a split is removed for overlap.
    """

    data_dir: Annotated[str | None, Field(min_length=1)] = None
    seed: Seed = 0
    limit: Annotated[int, Field(ge=1)] | None = None
    allow_overlap: bool = False

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        return None if value is None else str(Path(value).expanduser().absolute())

    def is_here(self) -> bool:
        """Tell whether every part is a local file, so that no hub is asked."""
        parts = [value for _, value in self if isinstance(value, Part)]
        return all(_path(part, self.data_dir) is not None for part in parts)


@dataclass(frozen=True)
class Rows:
    """The rows of a part.

    Attributes:
        first: N texts.
        second: N texts.
        labels: (N,) ids into the label map's names.
        extra: further columns, as texts.
        dropped: number of rows that were dropped for their label.
    """

    first: list[str]
    second: list[str]
    labels: NDArray[np.int64]
    extra: dict[str, list[str]]
    dropped: int


def is_wanted(part: Part, default: Part, data_dir: str | None) -> bool:
    """Tell whether an optional part is read: if its file is there, or if it was configured.

    A configured file that is missing is a mistake, which `read_part` reports.

    Args:
        part: of the configuration.
        default: its value if it is not configured.
        data_dir: folder of local files, None for the hub.
    """
    path = _path(part, data_dir)
    return part != default or (path is not None and path.is_file())


def check_places(parts: Iterable[Part], data_dir: str | None) -> None:
    """Check that every part has a place, before any is fetched. Raises DataError."""
    nowhere = [p for p in parts if p.hub is None and _path(p, data_dir) is None]
    if nowhere:
        raise DataError(
            Problem(
                part.file,
                "no data hub carries this part in a form that can be named here; give its file as "
                "an absolute path, or a data_dir that holds it",
            )
            for part in nowhere
        )


def read_part(
    part: Part,
    data_dir: str | None,
    labels: Mapping[str, str],
    *,
    drop: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Rows:
    """Read a part.

    Args:
        part: where it is.
        data_dir: folder of local files, None for the hub.
        labels: raw label -> name; raw labels may be both integers and names.
        drop: raw labels whose rows are left out.
        extra: further columns to read, with the same names in both forms.

    Raises:
        DataError: the file, the data set or a column is missing; a label is unknown, or means
            something else there.
    """
    path = _path(part, data_dir)
    if path is not None:
        return _local(part, path, labels, drop, extra)
    check_places([part], data_dir)
    return _hub(part, labels, drop, extra)


def _path(part: Part, data_dir: str | None) -> Path | None:
    """Return where a part's file should be; None if it is read from the hub."""
    path = Path(part.file).expanduser()
    if data_dir is None:
        return path if path.is_absolute() else None
    return Path(data_dir) / path


def _local(
    part: Part, path: Path, labels: Mapping[str, str], drop: Sequence[str], extra: Sequence[str]
) -> Rows:
    columns = read_columns(path, [*part.text, part.label, *extra])
    if path.suffix.lower() == ".parquet":
        _check_meaning(str(path), _parquet_names(path), labels)
    return _rows(path, columns, part.text, part.label, labels, drop, extra)


def _hub(part: Part, labels: Mapping[str, str], drop: Sequence[str], extra: Sequence[str]) -> Rows:
    # Imported late: local data needs no `datasets`.
    import datasets

    where = f"{part.hub}{f'/{part.subset}' if part.subset else ''}@{part.revision or 'newest'}"
    try:
        found = datasets.load_dataset(
            part.hub, part.subset, split=part.split, revision=part.revision
        )
    except (OSError, ValueError, RuntimeError, LookupError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(
            Problem(
                where,
                f"split '{part.split}' could not be fetched from the data hub ({reason}); check "
                "the id, the revision and the network, or give local files with data_dir",
            )
        ) from error
    sources = [*(found.info.download_checksums or {}), *(f["filename"] for f in found.cache_files)]
    _check_revision(where, part.revision, sources)
    wanted = [*part.hub_text, part.hub_label, *extra]
    missing = [name for name in wanted if name not in found.column_names]
    if missing:
        raise DataError(
            Problem(where, f"must have the columns {missing}, but has {found.column_names}")
        )
    names = getattr(found.features[part.hub_label], "names", None)
    _check_meaning(where, dict(enumerate(names)) if names else {}, labels)
    columns = {name: list(found[name]) for name in wanted}
    return _rows(Path(where), columns, part.hub_text, part.hub_label, labels, drop, extra)


def _check_revision(where: str, revision: str | None, sources: Sequence[str]) -> None:
    """Check that what was loaded is the commit asked for. Raises DataError.

    If a hub does not know a revision, `datasets` falls back on any other one in its cache.
    """
    if revision is None or not _COMMIT.fullmatch(revision):
        return
    found = {match[1] for key in sources if (match := _IN_ADDRESS.search(key))}
    if found and revision not in found:
        raise DataError(
            Problem(
                where,
                f"the data hub does not have this revision; the local cache holds {sorted(found)}; "
                "check the id, the revision and the network",
            )
        )


def _rows(
    path: Path,
    columns: Mapping[str, list[Any]],
    text: Sequence[str],
    label: str,
    labels: Mapping[str, str],
    drop: Sequence[str],
    extra: Sequence[str],
) -> Rows:
    rows, ids = label_ids(path, label, columns[label], labels=labels, drop=drop)
    kept = rows.tolist()
    first, second = (texts(path, name, [columns[name][i] for i in kept], kept) for name in text)
    return Rows(
        first=first,
        second=second,
        labels=ids,
        extra={name: [str(columns[name][i]) for i in kept] for name in extra},
        dropped=len(columns[label]) - len(rows),
    )


def _check_meaning(where: str, names: Mapping[Any, str], labels: Mapping[str, str]) -> None:
    """Check the label map against what a file says its labels mean. Raises DataError."""
    wrong = {
        raw_label(raw): name
        for raw, name in names.items()
        # Labels that a hub names "0" and "1" have no meaning to compare with.
        if raw_label(raw) in labels
        and raw_label(raw) != name
        and _plain(labels[raw_label(raw)]) != _plain(name)
    }
    if wrong:
        assumed = {raw: labels[raw] for raw in wrong}
        raise DataError(
            Problem(where, f"its labels mean {wrong}, but the map reads them as {assumed}")
        )


def _parquet_names(path: Path) -> dict[Any, str]:
    """Return what a parquet file says its labels mean; empty if it does not."""
    metadata = pa.parquet.read_schema(path).metadata or {}
    found = metadata.get(b"label_names")
    if found is None:
        return {}
    names: dict[Any, str] = json.loads(found)
    return names


def _plain(name: str) -> str:
    """Return a label's name without case, spaces and punctuation, and with synonyms replaced."""
    letters = "".join(ch for ch in name.lower() if ch.isalnum())
    return _SAME.get(letters, letters)
