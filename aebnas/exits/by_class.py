"""What a network does with every class: how many samples it gets right, and where they leave."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.exits.accuracy import absent_classes, recalls

# Classes without samples that are told by their names.
_NAMED = 5


@dataclass(frozen=True)
class ClassFigures:
    """One class on one split; None where it has no samples there.

    Attributes:
        label: Its number.
        name: As the data have it, which may be empty or that of another class too.
        samples: How many there are.
        recall: Share of them that are right.
        exit_shares: Fractions of them that leave at each exit, the final one last.
        latency_ms_mean: What they take on average, None also where it was not measured.
        backbone_recall: Share of them that the static backbone has right, None also where it was not asked.
    """

    label: int
    name: str
    samples: int
    recall: float | None
    exit_shares: tuple[float, ...] | None
    latency_ms_mean: float | None = None
    backbone_recall: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "exit_shares": None if self.exit_shares is None else list(self.exit_shares)}


def by_class(
    names: Sequence[str],
    truth: NDArray[np.integer[Any]],
    right: NDArray[np.bool_],
    exits: NDArray[np.integer[Any]],
    count: int,
    *,
    latency_ms: NDArray[np.floating[Any]] | None = None,
    backbone_right: NDArray[np.bool_] | None = None,
) -> tuple[ClassFigures, ...]:
    """Return the figures of every class.

    Args:
        names: Of the classes, in the order of their labels.
        truth: Right labels (N,).
        right: Whether the network is (N,).
        exits: Where each sample leaves, (N,) in 0 to count-1.
        count: Number of exits.
        latency_ms: Of each sample, (N,).
        backbone_right: Whether the static backbone is right (N,).
    """
    classes = len(names)
    samples = np.bincount(truth, minlength=classes)
    leaving = np.bincount(truth * count + exits, minlength=classes * count).reshape(classes, count)
    found = recalls(right, truth, classes)
    took = None if latency_ms is None else np.bincount(truth, latency_ms, minlength=classes)
    static = None if backbone_right is None else recalls(backbone_right, truth, classes)
    return tuple(
        ClassFigures(
            label,
            name,
            number,
            float(found[label]) if number else None,
            tuple((leaving[label] / number).tolist()) if number else None,
            None if took is None or not number else float(took[label] / number),
            None if static is None or not number else float(static[label]),
        )
        for label, (name, number) in enumerate(zip(names, samples.tolist(), strict=True))
    )


def shown_names(names: Sequence[str]) -> list[str]:
    """Return names that a table can show and a reader tell apart.

    What cannot be printed is escaped; a class without a name, and classes of one name, are told by their number.
    """
    plain = [_printable(name) for name in names]
    often = Counter(plain)
    return [
        f"{name} (class {label})".strip() if not name.strip() or often[name] > 1 else name
        for label, name in enumerate(plain)
    ]


def _printable(name: str) -> str:
    # As composed characters: é is the same name whether one code point or two.
    text = unicodedata.normalize("NFC", name)
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def left_out(splits: Mapping[str, NDArray[np.integer[Any]]], names: Sequence[str]) -> str | None:
    """Return a sentence on the classes without samples, which balanced accuracy leaves out; None: there are none.

    Args:
        splits: Right labels (N,) by the name of the split.
        names: Of the classes.
    """
    shown, found = shown_names(names), []
    for split, truth in splits.items():
        absent = [shown[label] for label in absent_classes(truth, len(names))]
        if absent:
            more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
            found.append(f"{split} has no sample of {', '.join(absent[:_NAMED])}{more}")
    return f"{'; '.join(found)}: balanced accuracy leaves such classes out" if found else None
