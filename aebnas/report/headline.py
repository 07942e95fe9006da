"""The first thing a reader of the report sees: what was found, beside the static backbone, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from aebnas.costs.kinds import COSTS, LATENCY, MACS
from aebnas.report.describe import number, percent, times
from aebnas.report.front import Front, Row
from aebnas.report.markup import Markup, tag
from aebnas.report.uncertainty import Uncertainty
from aebnas.report.worth import beside_static


class Card(NamedTuple):
    """One figure: what it is, its value, and what it stands beside."""

    title: str
    value: str
    notes: tuple[str, ...]


def headline(front: Front, summary: Mapping[str, Any], sure: Uncertainty) -> Markup:
    """Return a sentence and a card per figure."""
    shown = [
        tag(
            "div",
            tag("dt", card.title),
            tag("dd", tag("strong", card.value), *(tag("span", note) for note in card.notes)),
            class_="card",
        )
        for card in cards(front, summary, sure)
    ]
    said = tag(
        "p", "The default pick is ", tag("strong", front.pick["id"]), f": {_sentence(front, sure)}.", class_="lead"
    )
    remarks = (tag("p", line) for line in _remarks(front, summary, sure))
    return tag("div", said, tag("dl", *shown, class_="cards"), *remarks)


def cards(front: Front, summary: Mapping[str, Any], sure: Uncertainty) -> Iterator[Card]:
    """Yield what is known of the default pick beside the backbone, with its uncertainty."""
    pick, base = front.pick, front.backbone
    for split, column in (("test", "accuracy_test"), ("validation", "accuracy_val")):
        if pick[column] is not None:
            yield _accuracy(split, pick[column], base[column], sure)
    if pick["latency_ms_measured"] is not None:
        noise = _noise(summary)
        varied = () if noise is None else (f"the machine varied by {noise:.1f} % while blocks were measured",)
        backbone_ms = pick.get("backbone_ms_measured")
        beside = f"backbone, in turns with it: {number(backbone_ms)} ms"
        yield Card(
            "Latency, measured",
            f"{number(pick['latency_ms_measured'])} ms",
            (f"{times(pick.get('speedup_measured'))} as fast as the backbone", beside, *varied),
        )
    if pick["latency_ms_mean"] is not None:
        yield Card("Latency, predicted", f"{number(pick['latency_ms_mean'])} ms", _predicted(pick, base))
    macs = COSTS[MACS]
    share = pick["macs_mean"] / base["macs_mean"] if base["macs_mean"] else math.nan
    yield Card(
        "Multiply-accumulates, counted",
        f"{number(pick['macs_mean'] / macs.scale)} M MACs",
        (f"{100 * share:.0f} % of the backbone's {number(base['macs_mean'] / macs.scale)} M", "mean over validation"),
    )
    for name in front.costs:
        kind = COSTS[name]
        if name not in (MACS, LATENCY) and pick.get(kind.column) is not None:
            beside = f"backbone {number((base.get(kind.column) or 0.0) / kind.scale)} {kind.unit}"
            yield Card(
                f"{kind.label.capitalize()}, predicted",
                f"{number(pick[kind.column] / kind.scale)} {kind.unit}",
                (beside,),
            )


def _sentence(front: Front, sure: Uncertainty) -> str:
    """Say in one line what the cards say, the best that is known of each."""
    pick, base = front.pick, front.backbone
    split, column = ("test", "accuracy_test") if pick["accuracy_test"] is not None else ("validation", "accuracy_val")
    of_what = "" if sure.kind == "plain" else f" {sure.name}"
    parts = [f"{percent(pick[column])} %{of_what} on {split} (backbone {percent(base[column])} %)"]
    parts.append(f"{number(pick['macs_mean'] / 1e6)} M MACs on average (backbone {number(base['macs_mean'] / 1e6)} M)")
    if pick["latency_ms_measured"] is not None:
        speedup = times(pick.get("speedup_measured"))
        parts.append(f"{number(pick['latency_ms_measured'])} ms measured, {speedup} as fast as the backbone")
    elif pick["latency_ms_mean"] is not None:
        parts.append(f"{number(pick['latency_ms_mean'])} ms predicted (backbone {number(base['latency_ms_mean'])} ms)")
    return "; ".join(parts)


def _accuracy(split: str, accuracy: float, base: float | None, sure: Uncertainty) -> Card:
    half, samples = sure.half(accuracy, split), sure.samples.get(split)
    notes = []
    if base is not None:
        notes.append(f"backbone {percent(base)} %: {100 * (accuracy - base):+.2f} points")
    counted = "" if samples is None else f"{samples:,} images"
    interval = "" if half is None else "± is the 95 % interval of sampling"
    flatters = "chosen on it, so it flatters" if split == "validation" else ""
    notes.append("; ".join(filter(None, [counted, interval, flatters])))
    value = f"{percent(accuracy)} %" + ("" if half is None else f" ± {percent(half)}")
    return Card(f"{sure.name.capitalize()} on {split}", value, tuple(filter(None, notes)))


def _predicted(pick: Row, base: Row) -> tuple[str, ...]:
    low, high = pick.get("latency_ms_low"), pick.get("latency_ms_high")
    known = () if low is None or high is None else (f"{number(low)} to {number(high)} ms for nine of ten networks",)
    return (*known, f"backbone {number(base['latency_ms_mean'])} ms", "composed of measured blocks")


def _remarks(front: Front, summary: Mapping[str, Any], sure: Uncertainty) -> Iterator[str]:
    """Yield what must not be read out of the figures above, where there is a reason to."""
    pick, base = front.pick, front.backbone
    worth = beside_static(front, pick, sure, summary)
    if worth is not None:
        yield worth
    yield from _apart(pick["accuracy_test"], base["accuracy_test"], sure)


def _apart(accuracy: float | None, base: float | None, sure: Uncertainty) -> Iterator[str]:
    """Say whether two accuracies on test differ by more than chance makes them."""
    if accuracy is None or base is None:
        return
    halves = sure.half(accuracy, "test"), sure.half(base, "test")
    if halves[0] is None or halves[1] is None:
        return
    chance = math.hypot(halves[0], halves[1])
    verdict = "less" if abs(accuracy - base) <= chance else "more"
    yield (
        f"On test, pick and backbone are {percent(abs(accuracy - base))} points apart: {verdict} than the "
        f"{percent(chance)} that chance alone may make, at most, on as many images."
    )


def _noise(summary: Mapping[str, Any]) -> float | None:
    latency = summary.get("latency")
    noise = latency.get("noise_pct") if isinstance(latency, dict) else None
    return float(noise) if isinstance(noise, int | float) else None
