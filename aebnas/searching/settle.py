"""Before finalists are chosen: what was stopped in training, and is on the front after all, is trained to its end."""

from __future__ import annotations

from collections.abc import Sequence

from aebnas.progress import Progress
from aebnas.searching.evaluation import Evaluation
from aebnas.searching.evaluator import Evaluator
from aebnas.searching.finalists import eligible_rows
from aebnas.searching.loop import Archive
from aebnas.searching.rows import front_rows, network_key
from aebnas.searching.rungs import Ledger


def settle(archive: Archive, evaluator: Evaluator, ledger: Ledger, progress: Progress) -> None:
    """Train on until no network on the front, or preferred by a target, was stopped.

    First what ``ledger``, which by now knows all that was found, would no longer stop; then, as long as there is any,
    what is on the front as it was left.
    """
    stopped = [evaluation for evaluation in archive.evaluations.values() if evaluation.partial]
    _train_on([one for one in stopped if evaluator.goes_on(one, ledger)], archive, evaluator, ledger, progress)
    settle_front(archive, evaluator, progress)


def settle_front(archive: Archive, evaluator: Evaluator, progress: Progress) -> None:
    """Train to its end what was stopped and is on the front as it was left, as long as there is any."""
    while wanted := _partial_on_front(archive, evaluator):
        _train_on(wanted, archive, evaluator, None, progress)


def _partial_on_front(archive: Archive, evaluator: Evaluator) -> list[Evaluation]:
    experiment = evaluator.experiment
    # A tie in the objectives may be no tie where the target counts as well.
    front = front_rows(archive, archive.limits, experiment.search.cost_objectives)
    keys = dict.fromkeys(network_key(row) for row in [*eligible_rows(archive, experiment), *front])
    found = [archive.evaluations[key] for key in keys]
    return [evaluation for evaluation in found if evaluation.partial]


def _train_on(
    stopped: Sequence[Evaluation], archive: Archive, evaluator: Evaluator, ledger: Ledger | None, progress: Progress
) -> None:
    if not stopped:
        return
    work = sum(evaluator.work(evaluation.spec, "search") for evaluation in stopped)
    with progress.stage("training on what was stopped", work) as stage:
        for evaluation in stopped:
            archive.add(evaluator.evaluate(evaluation.spec, stage=stage, ledger=ledger))
