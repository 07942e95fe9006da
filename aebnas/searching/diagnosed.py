"""What validation says of how well the exits of a front's points know when to leave."""

from __future__ import annotations

from collections.abc import Iterable

from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import decide, label_probabilities
from aebnas.exits.diagnostics import FRONT_COLUMNS, network_diagnostics, reachable_exits
from aebnas.exits.policy import leave_at, thresholds_from_json
from aebnas.searching.evaluator import Evaluator
from aebnas.searching.rows import Row, spec_of


def with_diagnostics(rows: Iterable[Row], evaluator: Evaluator) -> list[Row]:
    """Return ``rows`` with the columns of exit diagnostics (arXiv 2508.21495), None for static networks.

    Raises:
        RunError: the weights of a row are gone.
    """
    return [{**row, **(dict.fromkeys(FRONT_COLUMNS) if row["static"] else _columns(row, evaluator))} for row in rows]


def _columns(row: Row, evaluator: Evaluator) -> dict[str, float | None]:
    thresholds = thresholds_from_json(row["thresholds"])
    on = reachable_exits(thresholds)
    logits = evaluator.logits(spec_of(row), row["weights"])
    said = [logits[exit_] for exit_ in on]
    labels, confidences = decide(build_confidence(row["confidence"]), said)
    likely = label_probabilities(said, labels)
    early = tuple(thresholds[exit_] for exit_ in on[:-1])
    exits = leave_at(confidences[:-1].numpy(), early, labels[:-1].numpy())
    truth = evaluator.truth.numpy()
    return network_diagnostics(labels.numpy(), confidences[:-1].numpy(), likely[:-1].numpy(), truth, exits)
