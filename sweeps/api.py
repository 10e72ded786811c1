"""`sweeps.Sweep`: what a user works with, in a notebook or through `rc-sweep`.

Torch and Ray are imported only by the methods that need them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rc_core.errors import StorageError
from rc_core.record import TrialRecord
from sweeps.commands import command
from sweeps.constraints import Constraint
from sweeps.failure import failure_of
from sweeps.floors import floor_lines
from sweeps.folder import check_weights
from sweeps.rows import Row, front_json, reference_lines, rows
from sweeps.selection.measured import check_measured, intervals, latency_notes, with_latency
from sweeps.stored_sweep import StoredSweep
from sweeps.tables import ONE_SEED, front_table, front_width, render
from sweeps.views.status import interrupted

if TYPE_CHECKING:
    import pandas

    from sweeps.selection.confirmed import Confirmed
    from sweeps.views.progress import Progress


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


class Sweep(StoredSweep):
    """The results of a sweep, and what can be done with them.

    Example:
        sweep = Sweep.load("rc_storage/quickstart-1")
        [record.name for record in sweep.front]
        sweep.export("best-ood", "exported", wheres=["id_dev/accuracy >= reference - 0.02"])
    """

    @property
    def front(self) -> list[TrialRecord]:
        """The records on the Pareto front; see `sweeps.selection.mean_rows.front`."""
        from sweeps.selection.mean_rows import front

        return front(self)

    @property
    def candidates(self) -> list[TrialRecord]:
        """The front of the compressed models, without the dense reference; picks choose from it."""
        from sweeps.selection.mean_rows import candidates

        return candidates(self)

    def pick(
        self, which: str, *, wheres: Sequence[str] = (), weights: Sequence[str] = ()
    ) -> TrialRecord:
        """Return one record.

        Picks choose from the front of the compressed models, without the dense reference; by the
        means over new seeds if a confirmation has any.

        Args:
            which: `knee`, `best-id`, ... (`sweeps.selection.choose.PICKS`), or a trial's id.
            wheres: constraints in addition to the sweep's: `footprint/parameters <= 20e6`.
            weights: of the objectives for `weighted`: `ood_dev/accuracy=2`.

        Raises:
            ConfigError: constraints or weights that cannot be read.
            StorageError: no such trial, it has no model, or nothing is left to choose from.
        """
        from sweeps.selection.options import pick

        now = self.still()
        chosen = pick(now, which, wheres=wheres, weights=weights)
        return now._with_model(next(r for r in now.records if r.id == chosen))

    def confirm(
        self,
        *,
        seeds: int = 5,
        also: Sequence[str] = (),
        whole: bool | None = None,
        hours: float | None = None,
        address: str = "local",
        progress: Progress | None = None,
    ) -> Sweep:
        """Train new seeds of rows that noise may have ranked; return the sweep that holds them.

        From then on `table`, `pick` and the notebook's view of this sweep use their means. See
        `sweeps.verification.confirm.confirm` for arguments and errors.
        """
        from sweeps.verification.confirm import confirm

        done = confirm(
            self,
            seeds=seeds,
            also=also,
            whole=whole,
            hours=hours,
            address=address,
            progress=progress,
        )
        return Sweep(done.folder)

    def power(self, *, difference: float = 2.0) -> dict[str, Any]:
        """Return which differences n seeds can show; see `sweeps.selection.noise.power_json`."""
        from sweeps.selection.noise import power_json

        return power_json(self.still(), difference=difference)

    def test(self, *, say: Callable[[str], None] = _to_stderr) -> dict[str, Any]:
        """Open the sealed test, once, for the chosen trials; return the content of test.json.

        Args:
            say: called with a line for each tested trial; by default prints to standard error.

        Raises:
            StorageError: see `sweeps.verification.sealed.open_tests`, which says what it returns.
        """
        from sweeps.reporting.write import refresh_report
        from sweeps.verification.sealed import open_tests

        document = open_tests(self.still(), say=say)
        refresh_report(self)
        return document

    def latency(
        self,
        *,
        batch: int = 1,
        length: int = 64,
        rounds: int = 30,
        threads: int = 1,
        trials: Sequence[str] = (),
        every: bool = False,
        device: str | None = None,
    ) -> dict[str, Any]:
        """Time models side by side with the dense one; return the content of latency.json.

        From then on `wheres` may contain `latency/relative <= 0.7`. See
        `sweeps.deploy.latency.measure_latency` for arguments and errors.
        """
        from sweeps.deploy.latency import measure_latency

        document = measure_latency(
            self.still(),
            batch=batch,
            length=length,
            rounds=rounds,
            threads=threads,
            trials=trials,
            every=every,
            device=device,
        )
        self.folder.share()
        return document

    def export(
        self,
        pick: str,
        out: str | Path,
        *,
        wheres: Sequence[str] = (),
        weights: Sequence[str] = (),
    ) -> Path:
        """Write a model that plain transformers can load; see `sweeps.deploy.export.export`.

        Args:
            pick: as for `pick`, with its `wheres` and `weights`.
            out: a new or empty folder.
        """
        from sweeps.deploy.export import export

        now = self.still()
        return export(now, now.pick(pick, wheres=wheres, weights=weights), Path(out))

    def report(self, out: str | Path | None = None) -> Path:
        """Write the HTML report; see `sweeps.reporting.write.write_report`."""
        from sweeps.reporting.write import write_report

        return write_report(self, None if out is None else Path(out))

    def document(self, *, wheres: Sequence[str] = ()) -> dict[str, Any]:
        """Return the front as one JSON document, computed from the records as they are now.

        For a fixed design with several seeds: the front of its configurations' means.

        Args:
            wheres: constraints in addition to the sweep's, as for `table`.

        Raises:
            ConfigError: constraints that cannot be read.
            StorageError: they name a latency, but none was measured.
        """
        from sweeps.selection.confirmed_text import confirmed_json
        from sweeps.selection.mean_rows import mean_rows
        from sweeps.selection.stamp import stamp, stamp_json

        now = self.still()
        found, missed = now._new_seeds(wheres)
        records, extra = now._measured(wheres)
        means: list[Row] = []
        if found is not None and found.own:
            # Rows that miss a constraint of the user are left out too.
            means = mean_rows(found, now.rows, now.objectives, misses=missed)
        document = front_json(
            records,
            now.objectives,
            sweep=now.name,
            constraints=now._every(extra),
            means=means,
            intervals=intervals(now.folder),
        )
        return {
            **document,
            "test": stamp_json(stamp(now, found)),
            "confirmation": None if found is None else confirmed_json(found) | {"misses": missed},
            "interrupted": interrupted(now),
        }

    def table(self, *, wheres: Sequence[str] = ()) -> str:
        """Return the front, the reference and the vanilla rows as text, then the new seeds' means.

        For a fixed design with several seeds, only the means of its configurations.

        Args:
            wheres: constraints in addition to the sweep's. They remove no means from the table;
                lines below it say which rows satisfy them.

        Raises:
            ConfigError: constraints that cannot be read.
            StorageError: they name a latency, but none was measured.
        """
        from sweeps.selection.confirmed_text import confirmed_table, meeting_lines
        from sweeps.selection.stamp import stamp, stamp_lines

        now = self.still()
        found, missed = now._new_seeds(wheres)
        meeting = meeting_lines(found, missed) if found is not None and wheres else []
        seal = stamp_lines(stamp(now, found))
        lines = reference_lines(now.records)
        if found is not None and found.own:
            # What was timed is the trial as which a configuration is exported.
            named = {row.id for row in found.rows}
            own = [record for record in now.records if record.id in named]
            timed = latency_notes(now.folder, own, now._measured(wheres)[1])
            return "\n".join([confirmed_table(found), *floor_lines(lines), *seal, *meeting, *timed])
        records, extra = now._measured(wheres)
        notes = [ONE_SEED]
        if now.confirmation is not None:
            notes = ["The search's values, one seed each; it chose by them: they are optimistic."]
        if not any(record.status == "finished" for record in records):
            why = failure_of(now.path) or "none has ended yet, or all failed or were stopped"
            notes = [f"No trial has finished: {why} ({command(now.folder, 'status')})."]
        notes += latency_notes(now.folder, records, extra)
        every = now._every(extra)
        shown = rows(records, now.objectives, constraints=every, intervals=intervals(now.folder))
        front = front_table(shown, now.objectives, lines=lines, notes=[*notes, *seal])
        parts = [render(front, width=front_width(now.objectives))]
        if found is not None:
            parts += ["", confirmed_table(found), *meeting, *seal]
        return "\n".join(parts)

    def frame(self) -> pandas.DataFrame:
        """Return every trial as a row of a pandas DataFrame, indexed by id.

        For its columns see `sweeps.reporting.trials_table.trial_columns`. NaN or None: unknown.

        Raises:
            StorageError: a file of the sweep cannot be read.
        """
        import pandas

        from sweeps.reporting.trials_table import trial_columns

        return pandas.DataFrame(trial_columns(self.still())).set_index("id")

    def closing_lines(self) -> str:
        """Return where the results are, and useful next commands."""
        from sweeps.selection.opened_data import has_test

        export = ("export", "--pick", "knee", "--out", "exported")
        first = {command(self.folder, "confirm"): "more seeds where noise may have decided"}
        if self.config.get("design") == "fixed":  # Nothing was selected: nothing to confirm.
            first = {command(self.folder, "table"): "its rows as means over seeds"}
        elif self.confirmation is not None:
            first = {command(self.folder, "pareto"): "the front by means over new seeds"}
        testable = has_test(self.records) and not self.folder.test.is_file()
        commands = {
            **first,
            **({command(self.folder, "test"): "open the sealed test, once"} if testable else {}),
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

    def __repr__(self) -> str:
        now = self.still()
        return f"Sweep('{self.path}', {len(now.records)} trials, {len(now.front)} on the front)"

    def _repr_html_(self) -> str:
        from sweeps.views.notebook import sweep_html

        return sweep_html(self.still())

    def _measured(self, wheres: Sequence[str]) -> tuple[list[TrialRecord], list[Constraint]]:
        """Return the records with measured latencies, and the parsed constraints of the user."""
        from sweeps.selection.choose import check_wheres

        extra = check_wheres(wheres)
        check_measured(self.folder, extra)
        return with_latency(self.folder, self.records), extra

    def _new_seeds(self, wheres: Sequence[str]) -> tuple[Confirmed | None, dict[str, str]]:
        """Return the confirmation, and for each of its rows that misses a constraint, how."""
        from sweeps.selection.confirmed import confirmed
        from sweeps.selection.options import misses

        found = confirmed(self)
        if found is None or not found.rows:
            return None, {}
        return found, misses(self, found, wheres)

    def _every(self, extra: Sequence[Constraint]) -> list[str]:
        """Return the sweep's constraints and the given ones."""
        return [*self.constraints, *(each.text for each in extra)]

    def _with_model(self, record: TrialRecord) -> TrialRecord:
        if record.status != "finished":
            raise StorageError(
                f"trial {record.id} must be finished to be exported, but is {record.status}"
            )
        check_weights({record.id: self.folder.trial(record.id)}, "exported")
        return record
