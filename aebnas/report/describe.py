"""Short texts for people: layers, exits, shares, numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aebnas.branches.spec import NO_CASCADE, BranchSpec, PartSpec
from aebnas.exits.policy import NEVER

# What follows nearly every layer tells networks apart from no other.
_UNSAID = ("batch-norm", "relu", "hard-swish")
_OPTIONS = {
    "kernel": "{}",
    "size": "-{}",
    "factor": "-{}",
    "stride": "-s{}",
    "channels": "-x{}",
    "expand": "-x{}",
    "mix": "-{}",
}
FINAL = "final"
MISSING = "–"


@dataclass(frozen=True)
class ShownExit:
    """One exit that is switched on; the final one has no branch and no threshold.

    Args:
        share: Fraction of the validation samples that leave here.
    """

    name: str
    share: float
    branch: BranchSpec | None = None
    threshold: float | Sequence[float | None] | None = None


def shown_exits(row: Mapping[str, Any]) -> list[ShownExit]:
    """Return the exits of a front row that are switched on, the final one last; a truncated network has only one."""
    branches = [BranchSpec.from_json(value) for value in row["exits"]]
    if row["static"]:
        cut = row.get("cut")
        last = None if cut is None else branches[cut]
        return [ShownExit(last.attach if last else FINAL, 1.0, last)]
    on = [
        ShownExit(branch.attach, share, branch, threshold)
        for branch, share, threshold in zip(branches, row["exit_shares"], row["thresholds"], strict=False)
        if threshold is not None
    ]
    return [*on, ShownExit(FINAL, row["exit_shares"][-1])]


def part_text(part: PartSpec) -> str:
    """Return a layer or head in a word: ``conv3-s2``, ``grid-linear-2``."""
    options = dict(part.options)
    known = "".join(form.format(options[name]) for name, form in _OPTIONS.items() if name in options)
    other = "".join(f"-{name}{value}" for name, value in part.options if name not in _OPTIONS)
    return f"{part.kind}{known}{other}"


def branch_parts(branch: BranchSpec) -> list[str]:
    """Return the layers that tell branches apart, in a word each, and the head last."""
    return [part_text(part) for part in branch.layers if part.kind not in _UNSAID] + [part_text(branch.head)]


def exits_text(row: Mapping[str, Any]) -> str:
    """Return where a network may be left early, and through what; one line per branch that is switched on."""
    lines = [
        f"{shorten(exit_.name, 24)}: {' + '.join(branch_parts(exit_.branch))}"
        for exit_ in shown_exits(row)
        if exit_.branch
    ] or ["no exits"]
    return "\n".join(f"cut at {line}" if row.get("cut") is not None else line for line in lines)


def shares_text(row: Mapping[str, Any]) -> str:
    """Return the exit shares in percent, the final exit last: ``95/5``."""
    return MISSING if row["static"] else "/".join(percent_share(exit_.share) for exit_ in shown_exits(row))


def threshold_text(threshold: float | Sequence[float | None]) -> str:
    """Return what a confidence is compared with: a number, or the range of the numbers of all classes."""
    if isinstance(threshold, float | int):
        if threshold >= NEVER:
            return "never"
        return "always" if threshold <= 0 else f"≥ {threshold:.3f}"
    known = [one for one in threshold if one is not None]
    if not known:
        return "never"
    never = f", {len(threshold) - len(known)} of {len(threshold)} never" if len(known) < len(threshold) else ""
    return f"≥ {min(known):.3f} to {max(known):.3f} by class{never}"


def settings_text(row: Mapping[str, Any]) -> str:
    """Return how a network was trained and decides: ``cgt-soft tau=0.5, patience``."""
    if row["static"]:
        return MISSING
    chosen = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in (row.get("options") or {}).items()]
    cascade = row.get("cascade") or NO_CASCADE
    words = [f"cascade={cascade}"] if cascade != NO_CASCADE else []
    return f"{' '.join([str(row['regime']), *chosen, *words])}, {row['confidence']}"


def percent_share(share: float) -> str:
    """Return a share in whole percent, and never 0 or 100 for what is only nearly so."""
    if 0 < share < 0.005:
        return "<1"
    return ">99" if 0.995 <= share < 1 else f"{100 * share:.0f}"


def percent(value: float | None) -> str:
    """Return a fraction as percent with two decimals."""
    return MISSING if value is None else f"{100 * value:.2f}"


def number(value: float | None) -> str:
    """Return a value with three digits that count."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def times(value: float | None) -> str:
    """Return a factor: ``2.79x``."""
    return MISSING if value is None else f"{value:.2f}x"


def shorten(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` characters: words cut to four letters, then the end left out.

    Numbers and the beginning stay: in paths of modules they say which block of which stage is meant.
    """
    if len(text) > width:
        text = re.sub(r"([A-Za-z]{4})[A-Za-z]+", r"\1", text)
    return text if len(text) <= width else f"{text[: width - 1]}…"
