"""Anyone's own sentence or sentence-pair classification data, from parquet, jsonl, csv or tsv.

task:
  name: files
  data_dir: ../somewhere
  text: [sentence1, sentence2]                 # one or two columns
  label: label
  labels: {0: entailment, 1: neutral, 2: contradiction}
  roles:
    train: a/train.parquet
    id_dev: a/trial.parquet                    # optional: else carved from train
    id_test: a/test.parquet                    # optional
    ood_dev: {suite_x: x/dev.jsonl}
    ood_test:                                  # optional
      suite_y: {file: y/test.tsv, text: [premise, hypothesis], slice: subcase, exclude: x/dev.jsonl,
                labels: {0: entailment, 1: not_entailment},
                merge: {neutral: not_entailment, contradiction: not_entailment}}
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, field_validator, model_validator

from rc_core.config import PluginConfig, Seed
from rc_core.data._assemble import assemble
from rc_core.data._files_schema import LabelMap, RawLabels, Roles, Source, as_list
from rc_core.data._places import place
from rc_core.data._sources import (
    MissingColumnError,
    label_ids,
    label_names,
    raw_label,
    read_columns,
    texts,
)
from rc_core.data._splits import split_keys
from rc_core.data._task import Role, Split, Task, check_split, pair_key
from rc_core.errors import DataError, Problem, collecting, did_you_mean
from rc_core.labels import count_of


class Config(PluginConfig):
    """Where the data is.

    Attributes:
        data_dir: folder of the files; `~` is the home folder. A path relative to the current
            directory is made absolute right away, because workers, and a later `test`, run in other
            folders.
        text: one column, or two different ones for pairs.
        label_column: column of the labels; `label` in YAML. A file may have columns of its own.
        labels: raw label in the files -> name; ids number the names in the order given. A list of
            names maps each to itself.
        drop_labels: raw labels whose rows are left out; any other raw label is an error.
        roles: the files: .parquet; or UTF-8 (with or without a byte order mark) as .jsonl, .csv
            with commas, or .tsv with tabs.
        seed: for carving id_dev and for `limit`.
        limit: keep this many training samples (labels keep their shares); null keeps all.
        allow_overlap: accept that more than 5 % of a split is removed because a split that wins
            over it holds the same pairs.
    """

    name: Literal["files"] = "files"
    data_dir: str = "."
    text: Annotated[tuple[str, ...], Field(min_length=1, max_length=2), BeforeValidator(as_list)]
    label_column: Annotated[str, Field(alias="label")] = "label"
    labels: LabelMap
    drop_labels: RawLabels = ()
    roles: Roles
    seed: Seed = 0
    limit: Annotated[int, Field(ge=1)] | None = None
    allow_overlap: bool = False

    def is_here(self) -> bool:
        """Return True: files are read from where they are."""
        return True

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return str(Path(value).expanduser().absolute())

    @field_validator("text")
    @classmethod
    def _check_text(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if (problem := _twice(value)) is not None:
            raise ValueError(problem)
        return value

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, value: dict[str, str]) -> dict[str, str]:
        if len(label_names(value)) < 2:
            raise ValueError("must name at least two labels")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Config:
        found = []
        if self.label_column in self.text:
            found.append(_label_among(self.text, self.label_column))
        for role, suite, source in self.roles.sources():
            place = f"roles.{role}.{suite}" if role.startswith("ood") else f"roles.{role}"
            found += [f"{place}.{problem}" for problem in _source_problems(self, role, source)]
        both = [raw for raw in self.drop_labels if raw in self.labels]
        if both:
            found.append(f"drop_labels must not be in labels, as {both} are")
        if found:
            raise ValueError("; ".join(found))
        return self

    def path(self, file: str) -> Path:
        """Return where a file is."""
        return Path(self.data_dir) / Path(file).expanduser()

    def columns(self, source: Source) -> tuple[tuple[str, ...], str]:
        """Return a source's text columns and its column of labels."""
        text = self.text if source.text is None else source.text
        return text, self.label_column if source.label is None else source.label

    def label_map(self, source: Source) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return a source's raw label -> name, and the raw labels that it drops."""
        if source.labels is not None:
            return source.labels, source.drop_labels or ()
        return self.labels, self.drop_labels if source.drop_labels is None else source.drop_labels


def _twice(text: Sequence[str]) -> str | None:
    """Return what is wrong with columns of texts that are one and the same."""
    if len(set(text)) == len(text):
        return None
    return f"must be two different columns for pairs, or one for single texts (text: [{text[0]}])"


def _label_among(text: Sequence[str], label: str) -> str:
    return (
        f"label must be a different column from those of text, but '{label}' is among {list(text)}"
    )


def _column_problems(config: Config, source: Source) -> list[str]:
    """Return what is wrong with a source's own columns, each beginning with the key at fault."""
    text, label = config.columns(source)
    found = []
    if len(text) != len(config.text):
        columns = count_of(len(config.text), "column")
        found.append(f"text must be {columns}, as the task's {list(config.text)}, not {list(text)}")
    elif (problem := _twice(text)) is not None:
        found.append(f"text {problem}")
    # The task's own columns are checked once, not for every source.
    if label in text and (source.text, source.label) != (None, None):
        found.append(_label_among(text, label))
    return found


def _source_problems(config: Config, role: Role, source: Source) -> list[str]:
    """Return what contradicts the task's labels; each problem begins with the key at fault."""
    found = _column_problems(config, source)
    if not role.startswith("ood"):
        given = [key for key in ("labels", "merge") if getattr(source, key)]
        return found + [f"{key} is for out-of-distribution suites only" for key in given]
    labels, drop = config.label_map(source)
    task_names, suite_names = label_names(config.labels), label_names(labels)
    both = [raw for raw in drop if raw in labels]
    found += [f"drop_labels must not be in labels, as {both} are"] if both else []
    for task_label, suite_label in source.merge.items():
        if task_label not in task_names:
            found.append(
                f"merge must map labels of the task, but '{task_label}' is not one: "
                f"{did_you_mean(task_label, task_names)}"
            )
        if suite_label not in suite_names:
            found.append(
                f"merge must map to labels of the suite, but '{suite_label}' is not one: "
                f"{did_you_mean(suite_label, suite_names)}"
            )
    reached = {source.merge.get(name, name) for name in task_names}
    unreached = [name for name in suite_names if name not in reached]
    if unreached:
        found.append(
            f"merge must say which of the task's labels {list(task_names)} stand for {unreached}"
        )
    return found


def load(config: Config) -> Task:
    """Read every file and return the task.

    Raises:
        DataError: everything that is wrong with the files, at once: missing files and columns,
            unknown labels, one label only, empty texts; or too much overlap between roles.
    """
    notes: dict[str, float] = {}
    splits: list[Split] = []
    problems: list[Problem] = []
    for role, suite, source in config.roles.sources():
        try:
            split = _read(config, role, suite, source, notes)
        except DataError as error:
            problems += [Problem(f"task.{role}.{suite}", str(each)) for each in error.problems]
            continue
        splits.append(split)
        where = f"task.{split.name} ({config.path(source.file)})"
        found = check_split(split, label_names(config.labels))
        problems += [Problem(where, each.message) for each in found]
    if problems:
        raise DataError(problems)
    return assemble(
        "files",
        label_names(config.labels),
        splits,
        seed=config.seed,
        limit=config.limit,
        allow_overlap=config.allow_overlap,
        notes=notes,
    )


def _read(config: Config, role: Role, suite: str, source: Source, notes: dict[str, float]) -> Split:
    """Return a file's split. Raises DataError with everything that is wrong with the file."""
    path = config.path(source.file)
    names, label_column = config.columns(source)
    try:
        columns = read_columns(path, [*names, label_column, *source.slice])
    except MissingColumnError as error:
        hint = "; or give this file's own: {file: ..., text: [...], label: ...}"
        told = hint if source.text is None and source.label is None else ""
        raise DataError(Problem(p.where, f"{p.message}{told}") for p in error.problems) from None
    labels, drop = config.label_map(source)
    problems: list[Problem] = []
    raw = columns[label_column]
    # If a label is unknown, the texts are checked all the same.
    rows = np.array([i for i, value in enumerate(raw) if raw_label(value) not in drop], np.int64)
    ids = np.zeros(len(rows), np.int64)
    with collecting(problems, DataError):
        rows, ids = label_ids(path, label_column, raw, labels=labels, drop=drop)
    kept: list[int] = rows.tolist()
    chosen: list[list[str]] = []
    for name in names:
        with collecting(problems, DataError):
            chosen.append(texts(path, name, [columns[name][i] for i in kept], kept))
    excluded: set[str] = set()
    for file in source.exclude:
        with collecting(problems, DataError):
            excluded |= _keys(config.path(file), names)
    if problems and len(chosen) == len(names) and not source.exclude:
        with collecting(problems, DataError):
            _check_filled(path, names, chosen, kept)
    if problems:
        raise DataError(problems)
    split = Split(
        role=role,
        suite=suite,
        first=chosen[0],
        second=chosen[1] if len(chosen) == 2 else None,
        labels=ids,
        label_names=label_names(labels),
        merge=source.merge,
        slices={each: [_slice_value(columns[each][i]) for i in kept] for each in source.slice},
    )
    if drop:
        notes[f"dropped_labels/{split.name}"] = len(raw) - len(rows)
    if source.exclude:
        chosen_rows = _not_excluded(split, excluded, path, source)
        notes[f"excluded/{split.name}"] = len(split) - len(chosen_rows)
        split, kept = split.take(chosen_rows), [kept[i] for i in chosen_rows.tolist()]
    _check_filled(path, names, [split.first, split.second or ()], kept)
    return split


def _not_excluded(
    split: Split, excluded: Collection[str], path: Path, source: Source
) -> NDArray[np.int64]:
    """Return the rows whose pair keys are not excluded. Raises DataError if there are none."""
    rows = [i for i, key in enumerate(split_keys(split)) if key not in excluded]
    if split and not rows:
        raise DataError(
            Problem(
                str(path),
                f"must keep samples, but all {len(split)} are in exclude, "
                f"{', '.join(source.exclude)}; leave out that file, or give other rows",
            )
        )
    return np.array(rows, dtype=np.int64)


def _check_filled(
    path: Path, names: Sequence[str], columns: Sequence[Sequence[str]], rows: Sequence[int]
) -> None:
    """Check that no text is empty. Raises DataError, with the place in the file.

    Args:
        path: of the file.
        names: of its text columns.
        columns: N texts of each.
        rows: N positions in the file.
    """
    problems = []
    for name, column in zip(names, columns, strict=False):
        empty = [i for i, text in enumerate(column) if not text.strip()]
        if empty:
            problems.append(
                Problem(
                    str(path),
                    f"column '{name}' must hold a text in every row, but "
                    f"{count_of(len(empty), 'row is', 'rows are')} "
                    f"empty there (first: {place(path, rows[empty[0]])}); fill them in or leave "
                    "them out",
                )
            )
    if problems:
        raise DataError(problems)


def _keys(path: Path, names: Sequence[str]) -> set[str]:
    """Return the pair keys of a file."""
    columns = read_columns(path, names)
    first, *second = (texts(path, n, columns[n], range(len(columns[n]))) for n in names)
    if not second:
        return {pair_key(text, None) for text in first}
    return {pair_key(*pair) for pair in zip(first, second[0], strict=True)}


def _slice_value(value: Any) -> str:
    return "missing" if value is None or value == "" else str(value)
