"""A diagnosis as tables: every exit, the network, accuracy within budgets; validation and test side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from aebnas.diagnosing.diagnosis import Diagnosis, Tuned
from aebnas.diagnosing.subject import SPLITS
from aebnas.exits.accuracy import accuracy_name
from aebnas.exits.diagnostics import ExitDiagnostics, Scores
from aebnas.report.classes import diagnosed_classes
from aebnas.report.describe import MISSING, number, percent, percent_share, shorten
from aebnas.report.tables import plain_table

# Exits beside each other in 80 characters.
_EXITS_SHOWN = 3
Cell = Callable[[ExitDiagnostics], str]


def diagnosis_tables(diagnosis: Diagnosis) -> Iterator[Table]:
    """Yield the tables of ``diagnosis``, in the order of reading."""
    names = diagnosis.subject.names
    yield network_table(diagnosis)
    for start in range(0, len(names), _EXITS_SHOWN):
        yield exits_table(diagnosis, range(start, min(start + _EXITS_SHOWN, len(names))))
    yield budgets_table(diagnosis)
    yield diagnosed_classes(diagnosis)


def network_table(diagnosis: Diagnosis) -> Table:
    """Return what the network does as a whole."""
    backbone, name = diagnosis.subject.backbone_macs, accuracy_name(diagnosis.subject.accuracy)
    table = _table("The network", ["", "validation", "test"])
    splits = [diagnosis.splits[name] for name in SPLITS]
    for label, values in (
        ("samples", [f"{split.network.samples:,}" for split in splits]),
        (f"{name}, %", [percent(split.network.accuracy) for split in splits]),
        (f"{name} of the last exit alone, %", [percent(split.network.accuracy_last) for split in splits]),
        ("mean MACs, % of the backbone's", [percent(split.macs_mean / backbone) for split in splits]),
        ("EEFP, mean over early exits", [_three(split.network.eefp) for split in splits]),
        ("EEFP on survivors", [_three(split.network.eefp_survivors) for split in splits]),
        ("went on in vain (futile), % of samples", [percent(split.network.futile) for split in splits]),
        ("left too early (premature), % of samples", [percent(split.network.premature) for split in splits]),
        (f"oracle: {name}, %", [percent(split.gap.accuracy) for split in splits]),
        ("oracle: mean MACs, % of the backbone's", [percent(split.gap.cost / backbone) for split in splits]),
        ("short of the oracle at these MACs, points", [percent(split.gap.accuracy_missed) for split in splits]),
        (
            "MACs beyond the oracle's at this accuracy, %",
            [percent(split.gap.cost_excess / split.macs_mean) for split in splits],
        ),
    ):
        table.add_row(label, *values)
    table.caption = Text(
        "oracle: every sample leaves at the first exit that is right about it, at exit 0 if none is. EEFP: how well "
        "the confidence ranks samples by whether leaving is right (the exit is right, or every later one is wrong "
        "too); 0.5 is chance, 1 perfect."
    )
    return table


def exits_table(diagnosis: Diagnosis, exits: Sequence[int]) -> Table:
    """Return what the ``exits`` of the network do one by one."""
    names = diagnosis.subject.names
    table = _table("Exit by exit", [""])
    for exit_ in exits:
        table.add_column(f"{exit_}: {shorten(names[exit_], 12)}\nval / test", justify="right", no_wrap=True)
    pairs = [[diagnosis.splits[split].network.exits[exit_] for split in SPLITS] for exit_ in exits]
    for title, rows in _exit_rows():
        table.add_section()
        table.add_row(Text(title, style="italic"))
        for label, cell in rows:
            table.add_row(f"  {label}", *(_pair(*map(cell, pair)) for pair in pairs))
    table.caption = Text(
        "ECE: of the predicted class's softmax probability, 15 bins; calibrated: of the confidence to the power that "
        "validation asks for. AUROC, EEFP, AURC and FPR rank by the confidence. AURC: mean share of errors over all "
        "coverages; excess: beyond a perfect ranking's. FPR: wrong predictions accepted with 95 % of the right "
        f"ones. {MISSING}: not defined."
    )
    return table


def budgets_table(diagnosis: Diagnosis) -> Table:
    """Return the most accurate policy within shares of the backbone's MACs, as validation finds it."""
    backbone = diagnosis.subject.backbone_macs
    columns = ["within, % of MACs", "val %", "test %", "val MACs %", "test MACs %", "shares on val, %"]
    table = _table(f"{accuracy_name(diagnosis.subject.accuracy).capitalize()} within a budget of MACs", columns)
    for budget, tuned in diagnosis.budgets.items():
        table.add_row(f"{100 * budget:.0f}", *_policy(tuned, backbone))
    table.add_section()
    splits = [diagnosis.splits[name] for name in SPLITS]
    table.add_row(
        "this policy",
        *(percent(split.network.accuracy) for split in splits),
        *(percent(split.macs_mean / backbone) for split in splits),
        "/".join(percent_share(exit_.share) for exit_ in splits[0].network.exits),
    )
    table.caption = Text(
        "Thresholds are tuned on validation, whose accuracy flatters; the same ones are scored on test. The backbone "
        f"has {number(backbone / 1e6)} M MACs."
    )
    return table


def _policy(tuned: Tuned | None, backbone: float) -> list[str]:
    if tuned is None:
        return [MISSING] * 4 + ["none is that cheap"]
    points = [tuned.points[name] for name in SPLITS]
    on = [*(threshold is not None for threshold in points[0].thresholds), True]
    shares = [share for share, is_on in zip(points[0].exit_shares, on, strict=True) if is_on]
    return [
        *(percent(point.accuracy) for point in points),
        *(percent(point.costs[0] / backbone) for point in points),
        "/".join(map(percent_share, shares)),
    ]


def _exit_rows() -> list[tuple[str, list[tuple[str, Cell]]]]:
    decisions: list[tuple[str, Cell]] = [
        ("reached it", lambda exit_: percent(exit_.reached)),
        ("left at it", lambda exit_: percent(exit_.share)),
        ("went on in vain (futile)", lambda exit_: percent(exit_.futile)),
        ("left early (premature)", lambda exit_: percent(exit_.premature)),
    ]
    return [
        ("decisions, % of all samples", decisions),
        ("on all samples", _scores(lambda exit_: exit_.every)),
        ("on survivors, who reach it", _scores(lambda exit_: exit_.survivors)),
    ]


def _scores(of: Callable[[ExitDiagnostics], Scores]) -> list[tuple[str, Cell]]:
    return [
        ("accuracy, %", lambda exit_: percent(of(exit_).accuracy)),
        ("EEFP", lambda exit_: _three(of(exit_).eefp)),
        ("AUROC of being right", lambda exit_: _three(of(exit_).auroc)),
        ("AURC, %", lambda exit_: percent(of(exit_).aurc)),
        ("excess AURC, %", lambda exit_: percent(of(exit_).excess_aurc)),
        ("FPR at 95 % TPR, %", lambda exit_: percent(of(exit_).fpr95)),
        ("ECE", lambda exit_: _three(of(exit_).ece)),
        ("ECE calibrated", lambda exit_: _three(of(exit_).ece_calibrated)),
    ]


def _table(title: str, columns: Sequence[str]) -> Table:
    table = plain_table(title)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=not place, overflow="fold")
    return table


def _pair(validation: str, test: str) -> str:
    return MISSING if validation == test == MISSING else f"{validation} / {test:>{len(validation)}}"


def _three(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"
