"""The seal of the test roles: when they were opened, for which configurations, what changed since.

A selection that is made or changed after the test was seen no longer has a sealed test. Every table
and model card says so, no matter when it was computed (`stamp_lines`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sweeps.commands import command
from sweeps.json_files import read_json
from sweeps.selection.confirmed import Confirmed, confirmed
from sweeps.selection.mean_rows import candidates, front
from sweeps.selection.opened_data import changed_splits
from sweeps.stored_sweep import StoredSweep

_NAMED = 8


@dataclass(frozen=True)
class Stamp:
    """The state of the seal.

    Attributes:
        opened: time of the first opening, seconds since the epoch.
        fixed: whether nothing was selected (`design: fixed`).
        selection: configurations chosen at the first opening.
        joined: chosen now, or at a later opening, but not at the first.
        left: chosen at the first opening but not now.
        again: number of later openings.
        other_data: test splits whose samples have changed since the launch.
    """

    opened: float
    fixed: bool
    selection: Sequence[str]
    joined: Sequence[str]
    left: Sequence[str]
    again: int
    other_data: Sequence[str] = ()

    @property
    def changed(self) -> bool:
        return bool(self.joined or self.left)


def read_test(sweep: StoredSweep) -> dict[str, Any] | None:
    """Return test.json, None while the test roles are sealed. Raises StorageError."""
    return read_json(
        sweep.folder.test,
        _as_test,
        what="what rc-sweep test wrote when the sealed test was opened",
        advice="restore it from a copy of the sweep; without one, move it away and open the test "
        f"again, which gives the same figures but loses the time of the first opening: "
        f"{command(sweep.folder, 'test')}",
    )


def _as_test(raw: Any) -> dict[str, Any]:
    """Return a document if it has the keys that all versions of test.json have. Raises KeyError."""
    openings = raw.get("openings") or [raw]
    needed = raw["opened"], raw["design"], raw["trials"], raw["selection"], openings[0]["selection"]
    del needed
    return dict(raw)


def selection(sweep: StoredSweep, found: Confirmed | None) -> list[str]:
    """Return the configurations that are chosen now, without the dense reference.

    After a confirmation: those it confirmed (none if the means of all miss a constraint). Before
    it: the front, and the front without the reference, which may beat compressed models. In a fixed
    design, where nothing is chosen: all.
    """
    if sweep.config.get("design") == "fixed":
        return [r.id for r in sweep.records if r.status == "finished" and not r.reference]
    if found is not None and found.rows and found.noise.df:
        return sorted(row.id for row in found.rows if row.confirmed)
    records = [*front(sweep), *candidates(sweep)]
    return list(dict.fromkeys(record.id for record in records if not record.reference))


def stamp(sweep: StoredSweep, found: Confirmed | None = None) -> Stamp | None:
    """Return the seal's state, None while the test roles are sealed.

    Args:
        sweep: any.
        found: its confirmation, if it was read already.
    """
    document = read_test(sweep)
    if document is None:
        return None
    now = selection(sweep, found or confirmed(sweep))
    return stamp_of(document, now, {r.id for r in sweep.records if r.reference})


def stamp_of(document: Mapping[str, Any], now: Sequence[str], references: set[str]) -> Stamp:
    """Return the seal's state from test.json and what is chosen now."""
    openings = document.get("openings") or [document]
    first = [i for i in openings[0]["selection"] if i not in references]
    later = [i for each in openings[1:] for i in each["selection"]]
    joined = [i for i in dict.fromkeys([*later, *now]) if i not in first and i not in references]
    return Stamp(
        opened=openings[0].get("when", document["opened"]),
        fixed=document["design"] == "fixed",
        selection=first,
        joined=joined,
        left=[i for i in first if i not in now],
        again=len(openings) - 1,
        other_data=changed_splits(document),
    )


def stamp_lines(found: Stamp | None) -> list[str]:
    """Return what tables and model cards say about the seal; empty while sealed."""
    if found is None:
        return []
    when = datetime.fromtimestamp(found.opened, UTC).strftime("%Y-%m-%d %H:%M UTC")
    who = "every row; nothing was selected" if found.fixed else named(found.selection)
    lines = [f"sealed test opened {when} for {who}"]
    if found.again:
        lines[0] += f"; opened again {found.again} time{'s' if found.again > 1 else ''}"
    if found.other_data:
        lines.append(
            f"samples of {', '.join(found.other_data)} are not those of the launch: nothing was "
            "selected on either version, but report this with the figures"
        )
    changed = changed_line(found)
    return lines if changed is None else [*lines, changed]


def changed_line(found: Stamp | None) -> str | None:
    """Return the warning that the selection changed after opening, None if it did not."""
    if found is None or not found.changed:
        return None
    parts = [f"{named(found.joined)} joined"] if found.joined else []
    parts += [f"{named(found.left)} left"] if found.left else []
    what = "ROWS" if found.fixed else "SELECTION"
    return (
        f"{what} CHANGED AFTER OPENING: {', '.join(parts)}; what was chosen after the test was "
        "seen has no sealed test"
    )


def stamp_json(found: Stamp | None) -> dict[str, Any] | None:
    """Return the seal's state as plain JSON values, None while sealed."""
    if found is None:
        return None
    return {
        "opened": found.opened,
        "selection": list(found.selection),
        "joined_after_opening": list(found.joined),
        "left_after_opening": list(found.left),
        "changed_after_opening": found.changed,
        "other_test_data": list(found.other_data),
    }


def named(ids: Sequence[str]) -> str:
    """Return a list of ids, shortened."""
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return (", ".join(ids[:_NAMED]) or "no configuration") + more
