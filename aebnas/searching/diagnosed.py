"""What validation says of how well the exits of a front's points know when to leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import decide, label_probabilities
from aebnas.exits.diagnostics import FRONT_COLUMNS, network_diagnostics, reachable_exits
from aebnas.exits.policy import leave_at, thresholds_from_json
from aebnas.files import canonical_json
from aebnas.searching.evaluator import Evaluator
from aebnas.searching.rows import Row, spec_of


def with_diagnostics(rows: Iterable[Row], evaluator: Evaluator) -> list[Row]:
    """Return ``rows`` with the columns of exit diagnostics (arXiv 2508.21495), None for static networks.

    Raises:
        RunError: the weights of a row are gone.
    """
    found = [{**row, **dict.fromkeys(FRONT_COLUMNS)} for row in rows]
    networks: dict[str, list[int]] = {}
    for place, row in enumerate(found):
        if not row["static"]:
            networks.setdefault(canonical_json([row["precision"], row["weights"]]), []).append(place)
    for places in networks.values():
        # Logits are read once for all points of a network, and those of one network at a time.
        first = found[places[0]]
        logits = evaluator.logits(spec_of(first), first["weights"])
        for place in places:
            found[place] |= _columns(found[place], logits, evaluator.truth)
    return found


def _columns(row: Row, logits: Sequence[Tensor], truth: Tensor) -> dict[str, float | None]:
    thresholds = thresholds_from_json(row["thresholds"])
    on = reachable_exits(thresholds)
    said = [logits[exit_] for exit_ in on]
    labels, confidences = decide(build_confidence(row["confidence"]), said)
    likely = label_probabilities(said, labels)
    early = tuple(thresholds[exit_] for exit_ in on[:-1])
    exits = leave_at(confidences[:-1].numpy(), early, labels[:-1].numpy())
    return network_diagnostics(labels.numpy(), confidences[:-1].numpy(), likely[:-1].numpy(), truth.numpy(), exits)
