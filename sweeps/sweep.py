"""A sweep on disk, for notebooks and the command line. Reading it needs no torch, Ray or MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rc_core.errors import StorageError
from rc_core.record import TrialRecord
from sweeps.constraints import Constraint
from sweeps.deploy.measured import check_measured, latency_notes, with_latency
from sweeps.failure import failure_of
from sweeps.folder import SweepFolder, check_weights
from sweeps.remote.mirror import CONFIRM_SUFFIX
from sweeps.rows import Row, front_json, reference_lines, rows
from sweeps.storages import storage_root
from sweeps.views.commands import command
from sweeps.views.floors import floor_lines
from sweeps.views.table import front_table, render


class Sweep:
    """What a sweep found.

    Example:
        sweep = Sweep.load("rc_storage/quickstart-1")
        [record.name for record in sweep.front]
    """

    def __init__(self, folder: SweepFolder) -> None:
        self.folder = folder
        self._values = folder.read_config()

    @classmethod
    def load(cls, path: str | Path, *, storage: str | Path | None = None) -> Sweep:
        """Return the sweep at a path, or by its name under the storage. Raises StorageError."""
        return cls(SweepFolder.find(str(path), storage_root(storage)))

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, plain values."""
        return self._values

    @property
    def objectives(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self._values["objectives"]
        return found

    @property
    def constraints(self) -> tuple[str, ...]:
        return tuple(self._values.get("constraints", ()))

    @property
    def records(self) -> list[TrialRecord]:
        """All records, ordered by id; read anew each time, so a running sweep can be watched."""
        return self.folder.records()

    @property
    def confirmation(self) -> Sweep | None:
        """The sweep that holds this one's new seeds (`rc-sweep confirm`), None before that."""
        path = self.path.with_name(self.name + CONFIRM_SUFFIX)
        return Sweep(SweepFolder(path)) if (path / "sweep.yaml").is_file() else None

    @property
    def rows(self) -> list[Row]:
        """One row per record, with rank, difference to the reference, relative bias."""
        return rows(self.records, self.objectives, constraints=self.constraints)

    @property
    def front(self) -> list[TrialRecord]:
        """The records on the Pareto front, best on the first objective first."""
        return self._sorted({row.id for row in self.rows if row.on_front})

    @property
    def candidates(self) -> list[TrialRecord]:
        """The front that is left without the dense reference: what there is to choose from."""
        return self._sorted({row.id for row in self.rows if row.candidate}) or self.front

    def pick(
        self, which: str, *, wheres: Sequence[str] = (), weights: Sequence[str] = ()
    ) -> TrialRecord:
        """Return one record.

        Picks choose among the compressed models, that is from the front without the dense
        reference; by means over new seeds where a confirmation has any.

        Args:
            which: `knee`, `best-id`, ... (`sweeps.selection.choose.PICKS`), or a trial's id.
            wheres: constraints on top of the sweep's: `footprint/parameters <= 20e6`.
            weights: of the objectives for `weighted`: `ood_dev/accuracy=2`.

        Raises:
            ConfigError: constraints or weights that cannot be read.
            StorageError: no such trial, it has no model, or nothing is left to choose from.
        """
        from sweeps.selection.options import pick

        chosen = pick(self, which, wheres=wheres, weights=weights)
        return self._with_model(next(r for r in self.records if r.id == chosen))

    def export(self, pick: str, out: str | Path) -> Path:
        """Write a model that plain transformers loads; see `sweeps.deploy.export.export`."""
        from sweeps.deploy.export import export

        return export(self, self.pick(pick), Path(out))

    def report(self, out: str | Path | None = None) -> Path:
        """Write the HTML report; see `sweeps.reporting.write.write_report`."""
        from sweeps.reporting.write import write_report

        return write_report(self, None if out is None else Path(out))

    def document(self, *, wheres: Sequence[str] = ()) -> dict[str, Any]:
        """Return the front as one JSON document, computed from the records as they are now.

        Args:
            wheres: constraints on top of the sweep's, as for `table`.

        Raises:
            ConfigError: constraints that cannot be read.
            StorageError: they name a latency, but none was measured.
        """
        from sweeps.selection.stamp import stamp, stamp_json

        records, extra = self._measured(wheres)
        document = front_json(
            records, self.objectives, sweep=self.name, constraints=self._every(extra)
        )
        return document | {"test": stamp_json(stamp(self))}

    def closing_lines(self) -> str:
        """Return where things are, and the commands a user wants next."""
        export = ("export", "--pick", "knee", "--out", "exported")
        first = {command(self.folder, "confirm"): "more seeds where noise may have decided"}
        if self.config.get("design") == "fixed":
            # Nothing was selected, so there is nothing to confirm.
            first = {command(self.folder, "table"): "its rows, means over seeds"}
        commands = {
            **first,
            command(self.folder, "test"): "open the sealed test, once",
            command(self.folder, *export): "a folder to deploy",
            command(self.folder, "ui"): "every trial in MLflow",
        }
        width = max(map(len, commands))
        page, mirror = self.path / "report.html", self.folder.mirror
        lines = [
            "",
            f"records: {self.folder.trials}/<id>/record.json",
            *([f"kept at: {mirror.uri}/{self.name}"] if mirror is not None else []),
            f"report:  {page}" if page.is_file() else f"picture: {self.folder.picture}",
            "next:",
            *(f"  {line:<{width}}   {what}" for line, what in commands.items()),
        ]
        return "\n".join(lines)

    def table(self, *, wheres: Sequence[str] = ()) -> str:
        """Return the front, the reference and the vanilla rows as text.

        Of a fixed design with several seeds, without `wheres`, one row per configuration instead:
        means over its seeds.

        Args:
            wheres: constraints on top of the sweep's.

        Raises:
            ConfigError: constraints that cannot be read.
            StorageError: they name a latency, but none was measured.
        """
        from sweeps.selection.confirmed import confirmed
        from sweeps.selection.confirmed_text import confirmed_table
        from sweeps.selection.stamp import stamp, stamp_lines

        if not wheres:
            means = confirmed(self)
            if means is not None and means.own:
                below = floor_lines(reference_lines(self.records))
                below += stamp_lines(stamp(self, means))
                return "\n".join([confirmed_table(means), *below])
        records, extra = self._measured(wheres)
        found = rows(records, self.objectives, constraints=self._every(extra))
        notes = ["One seed each: differences of a few points may be noise."]
        if self.confirmation is not None:
            notes = ["The search's values, one seed each, by which it chose: they flatter."]
        if not any(record.status == "finished" for record in records):
            why = failure_of(self.path) or "none has ended yet, or what ended failed or was stopped"
            notes = [f"No trial has finished: {why} ({command(self.folder, 'status')})."]
        notes += latency_notes(self.folder, records, extra)
        notes += stamp_lines(stamp(self))
        lines = reference_lines(records)
        return render(front_table(found, self.objectives, lines=lines, notes=notes))

    def __repr__(self) -> str:
        return (
            f"Sweep({str(self.path)!r}, {len(self.records)} trials, {len(self.front)} on the front)"
        )

    def _repr_html_(self) -> str:
        from sweeps.views.notebook import sweep_html

        return sweep_html(self)

    def _measured(self, wheres: Sequence[str]) -> tuple[list[TrialRecord], list[Constraint]]:
        """Return the records with what was measured of their models, and the user's constraints."""
        from sweeps.selection.choose import check_wheres

        extra = check_wheres(wheres)
        check_measured(self.folder, extra)
        return with_latency(self.folder, self.records), extra

    def _every(self, extra: Sequence[Constraint]) -> list[str]:
        """Return the sweep's constraints and more."""
        return [*self.constraints, *(each.text for each in extra)]

    def _sorted(self, ids: set[str]) -> list[TrialRecord]:
        first, direction = next(iter(self.objectives.items()))
        chosen = [record for record in self.records if record.id in ids]
        return sorted(chosen, key=lambda r: r.metric(first), reverse=direction == "max")

    def _with_model(self, record: TrialRecord) -> TrialRecord:
        if record.status != "finished":
            raise StorageError(
                f"trial {record.id} must be finished to be exported, but is {record.status}"
            )
        check_weights({record.id: self.folder.trial(record.id)}, "exported")
        return record
