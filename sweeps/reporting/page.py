"""The page as one file: style, script, plotly and data are inlined, nothing is loaded.

A content security policy forbids every connection, and every script but the three of the page, so
that a trial's name or error can neither call home nor run.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rc_core import __version__
from sweeps.ending import shown_state, state_counts
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.reporting.facts import Facts, varied
from sweeps.reporting.health import health
from sweeps.reporting.markup import Section
from sweeps.reporting.sections_results import (
    confirmed_section,
    sealed_section,
    slices_section,
    sparsity_section,
)
from sweeps.reporting.sections_search import (
    cost_section,
    failures_section,
    parallel_section,
    volume_section,
)
from sweeps.reporting.sections_top import front_section, health_section, verdict_section
from sweeps.reporting.style import DARK, LIGHT, Style, css_variables, escaped
from sweeps.reporting.verdict import verdict
from sweeps.rows import Row
from sweeps.selection.confirmed_text import share_text
from sweeps.shown_values import duration, metric_text, millions, number, percent

_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header class="top"><h1>{heading}</h1><p class="soft">{under}</p></header>
<nav aria-label="Parts of this page"><ul>{links}</ul></nav>
<main>
<noscript><p>The figures need JavaScript; the text and the tables do not.</p></noscript>
{sections}
</main>
<footer>{foot}</footer>
<div class="toast" id="toast" role="status"></div>
<script type="application/json" id="data">{data}</script>
{scripts}
</body>
</html>
"""


def report_page(facts: Facts) -> str:
    """Return the report of a sweep as HTML."""
    style = Style.of(facts.rows)
    sections = [
        verdict_section(facts, verdict(facts)),
        front_section(facts, style),
        health_section(health(facts)),
        confirmed_section(facts),
        sealed_section(facts),
        sparsity_section(facts, style),
        slices_section(facts),
        parallel_section(facts, style),
        volume_section(facts),
        cost_section(facts),
        failures_section(facts),
    ]
    return assemble(
        title=f"{facts.name}: compressed models in and out of distribution",
        heading=facts.name,
        under=_under(facts),
        sections=[section for section in sections if section is not None],
        data=_trials(facts),
        foot=_foot(facts),
    )


def assemble(
    *,
    title: str,
    heading: str,
    under: str,
    sections: Sequence[Section],
    data: Mapping[str, Any],
    foot: str,
) -> str:
    """Return a page.

    Args:
        title: of the window.
        heading: on top.
        under: below it.
        sections: in order.
        data: what the script needs besides the figures: `trials`, `columns`, `settings`, `command`,
            and `start`, the trial that is shown first.
        foot: HTML at the end.
    """
    figures = {drawn["id"]: drawn for section in sections for drawn in section.figures}
    # Plotly is large: a page without figures omits it.
    sources = [_plotly()] * bool(figures) + [_asset("page.js")]
    hashes = " ".join(f"'sha256-{_digest(source)}'" for source in sources)
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; "
        # Plotly's WebGL traces compile code at run time.
        f"script-src {hashes} 'unsafe-eval'; connect-src 'none'; form-action 'none'; "
        "base-uri 'none'"
    )
    theme = f":root{{{css_variables(LIGHT)}}}" + (
        f"@media (prefers-color-scheme: dark){{:root{{{css_variables(DARK)}}}}}"
    )
    return _TEMPLATE.format(
        policy=policy,
        title=escaped(title),
        style=theme + _asset("page.css"),
        heading=escaped(heading),
        under=escaped(under),
        links="".join(
            f'<li><a href="#{section.anchor}">{escaped(section.link or section.title)}</a></li>'
            for section in sections
        ),
        sections="\n".join(section.html() for section in sections),
        foot=foot,
        data=script_json({"figures": figures, **data}),
        scripts="\n".join(f"<script>{source}</script>" for source in sources),
    )


def script_json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _trials(facts: Facts) -> dict[str, Any]:
    """Return the details that are shown of the trial pointed at."""
    settings = varied(facts.records)
    others = [name for name in facts.objectives if not name.endswith("dev/accuracy")]
    new = {row.id: row for row in facts.confirmed_rows if row.seeds}

    def seeds(row: Row, key: str) -> str | None:
        if row.id not in new:
            return None
        return f"{share_text(new[row.id].estimates[key])} % ({new[row.id].seeds})"

    def entry(index: int, row: Row) -> dict[str, Any]:
        values = [
            shown_state(row.status, running=facts.running),
            percent(row.id_accuracy),
            percent(row.ood_accuracy),
            seeds(row, ID_KEY),
            seeds(row, OOD_KEY),
            _points(row.ood_difference) if not row.reference else None,
            millions(row.size),
            None if math.isnan(row.relative_bias) else f"{row.relative_bias:.3f}",
            None if math.isnan(row.seconds) else duration(row.seconds),
            "front" if row.on_front else "front without dense" if row.candidate else
            row.excluded or f"rank {row.rank}",
            *(metric_text(name, row.values[name]) for name in others),
        ]  # fmt: skip
        return {
            "id": row.id,
            "name": row.name,
            "status": shown_state(row.status, running=facts.running),
            "model": row.status == "finished",
            "error": (facts.records[index].error or "")[:300],
            "values": values,
            "settings": [_setting(column[index]) for column in settings.values()],
        }

    return {
        "columns": ["state", "ID", "OOD", f"ID, {facts.seeds_are}", f"OOD, {facts.seeds_are}",
                    "OOD vs dense",
                    "non-zero parameters", "relative bias", "time", "standing", *others],
        "settings": list(settings),
        "trials": [entry(i, row) for i, row in enumerate(facts.rows)],
        "command": facts.export_command("@@"),
        "start": next((i for i, row in enumerate(facts.rows) if row.id == facts.knee), None),
    }  # fmt: skip


def _points(value: float) -> str | None:
    return None if math.isnan(value) else f"{value:+z.1f} points"


def _setting(value: Any) -> str | None:
    if value is None:
        return None
    return number(value, ".4g") if isinstance(value, float) else str(value)


def _under(facts: Facts) -> str:
    task = facts.config.get("task", {}).get("name", "?")
    states = state_counts((row.status for row in facts.rows), running=facts.running)
    counts = ", ".join(f"{count} {state}" for state, count in states.items()) or "no trial yet"
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(facts.made))
    # A local path means nothing elsewhere; its last part names the model.
    model = str(facts.config.get("model", "?")).rstrip("/").rpartition("/")
    named = model[2] if model[0].startswith((".", "/", "~")) else "".join(model)
    return f"{task}, {named}; {counts}; as of {made}"


def _foot(facts: Facts) -> str:
    objectives = ", ".join(f"{name} ({way})" for name, way in facts.objectives.items())
    lines = [
        f"Objectives: {objectives}. Hypervolume {facts.hypervolume:.4f}.",
        "The source of truth is trials/<id>/record.json; this page is a view of these files.",
    ]
    if facts.constraints:
        lines.append("Constraints: " + "; ".join(facts.constraints) + ".")
    record = next((r for r in facts.records if r.environment), None)
    if record is not None:
        where = record.environment
        versions = ", ".join(f"{k} {v}" for k, v in where.get("versions", {}).items() if v)
        lines.append(
            f"{where.get('processor', '?')}, {where.get('cores', '?')} cores; Python "
            f"{where.get('python', '?')}, {versions}; data {record.data.get('digest', '?')}."
        )
    lines.append(f"Made by rc-sweep report, robust-compression-sweeps {__version__}.")
    return "".join(f"<p>{escaped(line)}</p>" for line in lines)


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    # An end tag in a string of the library would end the element.
    source: str = get_plotlyjs().replace("</script", "<\\/script")
    return source


def _asset(name: str) -> str:
    return importlib.resources.files("sweeps.reporting").joinpath(name).read_text(encoding="utf-8")


def _digest(source: str) -> str:
    # A browser hashes the parsed source, in which \r\n has become \n.
    text = source.replace("\r\n", "\n").replace("\r", "\n")
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
