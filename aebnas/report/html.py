"""The report of a run: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import math
import platform
from collections.abc import Iterable, Mapping
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aebnas import __version__
from aebnas.costs.kinds import COSTS, MACS
from aebnas.errors import RunError
from aebnas.files import write_text
from aebnas.report.describe import number, percent, times
from aebnas.report.draw import draw_all
from aebnas.report.front import Front
from aebnas.report.prepared import prepared_if_known
from aebnas.report.table import columns, notes, sections
from aebnas.run import Run

_ROWS = 40
_PACKAGES = ("torch", "onnxruntime", "onnx", "optuna", "numpy", "thop")
_CAPTIONS = {
    "pareto": "Accuracy against cost. Up and to the left is better. The dashed line is the backbone's accuracy.",
    "network": "The default pick. Arrows are the thicker the more validation samples go that way.",
    "exit_shares": "Where validation samples leave.",
    "hypervolume": "Progress of the search: the share of cost and accuracy that its points dominate.",
    "importance": "Genes that set the best tenth or so of the trials apart (PED-ANOVA); few trials make this rough.",
}
_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem; }
th, td { padding: .3rem .7rem; text-align: right; vertical-align: top; white-space: pre-line; }
td { border-top: 1px solid var(--line); font-variant-numeric: tabular-nums; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
tr.section td { background: var(--soft); font-weight: 600; text-align: left; } tr.pick { font-weight: 600; }
figure { margin: 1.5rem 0; } figcaption { font-size: .9rem; opacity: .8; }
img { max-width: 100%; background: white; border-radius: 6px; padding: .5rem; box-sizing: border-box; }
pre { background: var(--soft); padding: 1rem; overflow-x: auto; border-radius: 6px; font-size: .85rem; }
"""


def write_report(run: Run, path: Path) -> Path:
    """Draw the pictures of ``run`` into its folder, and write them with its table and its settings to ``path``.

    Raises:
        RunError: a file of the run is missing or damaged, or ``path`` cannot be written.
    """
    front, summary = Front.of(run), _summary(run)
    images = draw_all(run, run.folder.plots)
    name = escape(run.experiment.name)
    body = [
        f"<h1>aebnas: {name}</h1>",
        _headline(front),
        "<h2>Pictures</h2>",
        *(_picture(image) for image in images),
        "<h2>The front</h2>",
        _front_html(front),
        "<h2>What the numbers do not say</h2>",
        _bullets(_limits(run, front, summary)),
        "<h2>The search</h2>",
        _bullets(_story(summary)),
        "<h2>Configuration</h2>",
        f"<pre>{escape(run.experiment.to_yaml())}</pre>",
        "<h2>Versions that wrote this report</h2>",
        _bullets([f"aebnas {__version__}, Python {platform.python_version()}", *_versions()]),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>aebnas: {name}</title>'
    page = f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n'
    write_text(path, page + "\n".join(body) + "\n</body></html>\n")
    return path


def _summary(run: Run) -> dict[str, Any]:
    summary = run.summary()
    if not isinstance(summary, dict) or not isinstance(summary.get("seconds"), dict):
        raise RunError(f"{run.folder.summary_file} is damaged: delete it and run the same search again")
    return summary


def _headline(front: Front) -> str:
    pick, base = front.pick, front.backbone
    parts = [f"{percent(pick['accuracy_val'])} % on validation (backbone {percent(base['accuracy_val'])} %)"]
    if pick["accuracy_test"] is not None:
        parts.append(f"{percent(pick['accuracy_test'])} % on test (backbone {percent(base['accuracy_test'])} %)")
    parts.append(f"{number(pick['macs_mean'] / 1e6)} M MACs on average (backbone {number(base['macs_mean'] / 1e6)} M)")
    if pick["latency_ms_measured"] is not None:
        speedup = times(pick.get("speedup_measured"))
        parts.append(f"{number(pick['latency_ms_measured'])} ms measured, {speedup} as fast as the backbone")
    elif pick["latency_ms_mean"] is not None:
        parts.append(f"{number(pick['latency_ms_mean'])} ms predicted (backbone {number(base['latency_ms_mean'])} ms)")
    return f"<p>The default pick is <strong>{escape(pick['id'])}</strong>: {escape('; '.join(parts))}.</p>"


def _picture(image: Path) -> str:
    data = base64.b64encode(image.read_bytes()).decode("ascii")
    caption = escape(_caption(image.stem))
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def _caption(name: str) -> str:
    if not name.startswith("pareto_"):
        return _CAPTIONS[name]
    cost = name.removeprefix("pareto_")
    why = ", which do not depend on the device" if cost == MACS else ""
    return f"The same over {COSTS[cost].label}{why}."


def _front_html(front: Front) -> str:
    shown = columns(front)
    head = "".join(f"<th>{escape(heading)}</th>" for heading, _ in shown)
    rows = []
    for title, group in sections(front, _ROWS):
        rows.append(f'<tr class="section"><td colspan="{len(shown)}">{escape(title)}</td></tr>')
        for row in group:
            cells = "".join(f"<td>{escape(cell(row))}</td>" for _, cell in shown)
            rows.append(f"<tr{' class=pick' if row is front.pick else ''}>{cells}</tr>")
    table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>' + "\n".join(rows)
    return f"{table}</tbody></table></div>{_bullets(notes(front, _ROWS))}"


def _limits(run: Run, front: Front, summary: Mapping[str, Any]) -> Iterable[str]:
    """Say how far the numbers can be trusted, a sentence each."""
    yield "One seed, one split: another seed finds other networks, and their difference is part of the uncertainty."
    prepared, accuracy = prepared_if_known(run), front.pick["accuracy_test"]
    if prepared is not None and accuracy is not None:
        count = len(prepared.data.test)
        margin = 1.96 * math.sqrt(max(accuracy * (1 - accuracy), 0.0) / count)
        yield f"The test split has {count:,} samples: the pick's accuracy is known to ±{percent(margin)} points (95 %)."
    yield (
        "Thresholds and networks were chosen on validation, so validation accuracy flatters; where the test accuracy "
        "falls below the backbone's, the choice did not hold."
    )
    yield (
        "Exit shares, and with them mean costs, hold for data like the validation split: harder inputs leave later, "
        "and an input that passes every exit takes longer than in the backbone alone."
    )
    if front.knows("latency_ms_mean"):
        yield (
            "Latency is for one image at a time and images in a row, without preprocessing, on "
            f"{run.folder.profile().name}; an image that comes after a pause finds cold caches and takes longer."
        )
    else:
        yield "No latency was measured: fewer multiply-accumulates need not be faster on the device."
    if summary.get("missed_macs"):
        yield f"{summary['missed_macs']:,} MACs of functional operations in the backbone are in no figure here."
    if front.pick.get("energy_source") == "profile":
        yield "Energy is the active power that the profile gives times the latency: no sensor was read."
    elif front.pick.get("energy_source") is None:
        yield "Energy was not measured: no sensor could be read, and the profile gives no active power."


def _story(summary: Mapping[str, Any]) -> Iterable[str]:
    for key, label in (("trials", "trials"), ("networks", "networks evaluated"), ("failed", "of them failed")):
        yield f"{label}: {summary.get(key, 'unknown')}"
    if isinstance(summary.get("hypervolume"), (int, float)):
        yield f"hypervolume over {summary.get('cost', 'cost')}: {summary['hypervolume']:.3f}"
    latency = summary.get("latency")
    if latency:
        noise = latency["noise_pct"]
        yield "machine varied by: " + ("unknown, all blocks were known" if noise is None else f"{noise:.1f} %")
        for precision, overhead in latency["overhead"].items():
            yield (
                f"latency beyond blocks in {precision}: scale {overhead['scale']:.3f}, "
                f"{1e3 * overhead['gate_ms']:.1f} us per decision, {1e3 * overhead['switch_ms']:.1f} us per switch, "
                f"fitted on {overhead['paths']} measured graphs, spread {100 * overhead['spread']:.1f} %"
            )
    for label, seconds in summary["seconds"].items():
        yield f"seconds for {label}: {seconds:,.1f}"


def _versions() -> Iterable[str]:
    return (f"{package} {version(package)}" for package in _PACKAGES)


def _bullets(lines: Iterable[str]) -> str:
    return "<ul>" + "\n".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
