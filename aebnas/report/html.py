"""The report of a run: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from aebnas.costs.model import CostModel
from aebnas.errors import InputError, RunError
from aebnas.files import write_text
from aebnas.prepare import Prepared
from aebnas.report.about import about_section
from aebnas.report.costs_section import shares_section, times_section
from aebnas.report.describe import branch_parts, shown_exits, threshold_text
from aebnas.report.draw import gene_points
from aebnas.report.examples import examples_section
from aebnas.report.front import Front
from aebnas.report.headline import headline
from aebnas.report.history import read_trials
from aebnas.report.leaving import Seen, see_leaving
from aebnas.report.markup import Markup, bullets, data_island, joined, table, tag
from aebnas.report.network import cumulative_macs
from aebnas.report.points import page_data
from aebnas.report.prepared import prepared_if_known
from aebnas.report.search_section import search_section
from aebnas.report.table import columns, notes, sections
from aebnas.report.trust import limits_of_numbers
from aebnas.report.uncertainty import Uncertainty
from aebnas.run import Run

# In the order in which they run; each uses those before it.
_SCRIPTS = ("base.js", "words.js", "network.js", "scale.js", "plot.js", "table.js", "details.js", "main.js")


def write_report(run: Run, path: Path) -> Path:
    """Write everything that is known of ``run`` to ``path``, a page with its pictures, data, style and scripts in it.

    Raises:
        RunError: a file of the run is missing or damaged, or ``path`` cannot be written.
    """
    front, summary, trials = Front.of(run), _summary(run), read_trials(run)
    prepared, missing = _prepared(run)
    seen, problems = ({}, {}) if prepared is None else see_leaving(front.finalists, prepared, run.folder)
    macs = None if prepared is None else cumulative_macs(prepared.backbone)
    sure = Uncertainty.of(run.experiment, summary, prepared)
    attach = [] if prepared is None else [point.name for point in prepared.backbone.attach_points]
    costs = None if prepared is None else CostModel(prepared.backbone, None)
    parts = {
        "overview": [headline(front, summary, sure)],
        "points": [_plain_table(front), bullets(notes(front, len(front.rows)))],
        "networks": _networks(front, macs is not None, missing),
        "time": times_section(front, run.folder, costs),
        "shares": [*shares_section(front, seen, attach), *_problems(missing, problems)],
        "examples": _examples(front, seen, prepared, missing),
        "search": search_section(run.experiment, front, trials, summary, gene_points(run, prepared)),
        "trust": [bullets(limits_of_numbers(front, summary, run.folder.profile(), sure))],
        "about": about_section(run),
    }
    style = _page("page.css")
    # In a scope of their own, so that no name of theirs meets one of the browser.
    script = Markup("(() => {\n" + "\n".join(map(_page, _SCRIPTS)) + "\n})();")
    page = Template(_page("page.html")).substitute(
        {name: joined(part, "\n") for name, part in parts.items()},
        title=joined([f"aebnas: {run.experiment.name}"]),
        name=joined([run.experiment.name]),
        style=style,
        script=script,
        # Nothing but this script runs, whatever names and labels of the run hold, and nothing is fetched.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        data=data_island(page_data(front, macs, seen, run.folder.path, sure.name), "data"),
    )
    write_text(path, page)
    return path


def _page(name: str) -> str:
    return (files("aebnas.report") / "page" / name).read_text(encoding="utf-8")


def _summary(run: Run) -> dict[str, Any]:
    summary = run.summary()
    if not isinstance(summary, dict) or not isinstance(summary.get("seconds"), dict):
        raise RunError(f"{run.folder.summary_file} is damaged: delete it and run the same search again")
    return summary


def _prepared(run: Run) -> tuple[Prepared | None, str]:
    """Return data and backbone; or None and why they are not there."""
    try:
        prepared = prepared_if_known(run)
    except RunError:
        raise
    except InputError as error:
        return None, f"The data and the backbone of this run cannot be loaded here: {error}."
    return prepared, "" if prepared is not None else "The model or the data of this run came from Python."


def _plain_table(front: Front) -> Markup:
    """Return finalists and static networks, for readers whose browser runs no scripts: those replace it by all."""
    shown = columns(front)
    groups = [rows for title, rows in sections(front, 0) if rows]
    rows = [[cell(row).strip() for _, cell in shown] for group in groups for row in group]
    headings = [heading.replace("\n", " ") for heading, _ in shown]
    return tag("div", table("Finalists and static networks", headings, rows), id="table")


def _networks(front: Front, with_macs: bool, missing: str) -> list[Markup]:
    """Return a place for the drawing of every finalist, which the page's scripts draw from its data."""
    if not front.finalists:
        return [tag("p", "This run has no finalists.")]
    said = "Boxes in a row: the backbone, each as wide as its share of the MACs; below them the branches."
    if not with_macs:
        said = f"Boxes in a row: the backbone, below it the branches. {missing} So no MACs are known of its parts."
    drawn = "The thicker a green band, the more validation images go that way; what a branch is asked is written at it."
    figures = [
        tag(
            "figure",
            tag("figcaption", tag("h3", _name(front, row))),
            _exits(row),
            class_="network",
            data_network=row["id"],
        )
        for row in front.finalists
    ]
    return [tag("p", f"{said} {drawn}"), *figures]


def _name(front: Front, row: Mapping[str, Any]) -> str:
    return f"{row['id']} (default pick)" if row is front.pick else str(row["id"])


def _exits(row: Mapping[str, Any]) -> Markup:
    rows = [
        (
            exit_.name,
            "the backbone's own classifier" if exit_.branch is None else " + ".join(branch_parts(exit_.branch)),
            "the rest" if exit_.threshold is None else threshold_text(exit_.threshold),
            f"{100 * exit_.share:.1f} %",
        )
        for exit_ in shown_exits(row)
    ]
    headings = ("exit", "layers and head", f"leaves if {row['confidence']}", "leave, validation")
    return table(f"Exits of {row['id']}", headings, rows)


def _examples(front: Front, seen: Seen, prepared: Prepared | None, missing: str) -> Sequence[Markup]:
    if prepared is None:
        return [tag("p", f"There are no examples to see. {missing}")]
    if not seen:
        return [tag("p", "There are no examples to see: no finalist could be run again.")]
    return examples_section(front.finalists, seen, prepared, front.pick["id"])


def _problems(missing: str, problems: Mapping[str, str]) -> list[Markup]:
    if missing:
        return [tag("p", f"{missing} So shares are known on validation only, as they were tuned.", class_="muted")]
    return [tag("p", f"{id_} could not be run again: {problem}", class_="muted") for id_, problem in problems.items()]
