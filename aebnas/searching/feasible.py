"""Why a front is empty, in a sentence that helps."""

from __future__ import annotations

from aebnas.costs.kinds import COSTS
from aebnas.searching.loop import Archive


def hopeless(archive: Archive) -> str | None:
    """Say why there is nothing to choose from, what came nearest, and which limit to relax; None if there is.

    Static networks are something to choose from, but for where no candidate could be evaluated at all.
    """
    # A network without branches is the backbone, which cannot fail.
    tried = [evaluation for evaluation in archive.evaluations.values() if evaluation.spec.branches]
    failures = [evaluation.failure for evaluation in tried if evaluation.failure]
    if failures and len(failures) == len(tried):
        return f"every candidate failed; the first reason: {failures[0]}"
    return None if archive.within_limits() else _nothing_feasible(archive)


def _nothing_feasible(archive: Archive) -> str:
    nearest: tuple[float, str] | None = None
    for evaluation in archive.evaluations.values():
        for point in evaluation.curve.points:
            over = dict(zip(archive.limits.limits, archive.limits.violations(evaluation, point), strict=True))
            if over and (nearest is None or max(over.values()) < nearest[0]):
                worst = max(over, key=lambda name: over[name])
                key, limit = COSTS[worst].limit, archive.limits.limits[worst] / COSTS[worst].scale
                nearest = (
                    over[worst],
                    f"{key} {limit * (1 + over[worst]):.4g} against a limit of {limit:.4g}, at "
                    f"{100 * point.accuracy:.2f} % validation accuracy: relax limits.{key}",
                )
    if nearest is None:
        return "no candidate could be evaluated: give search.trials more, or another space"
    return f"no candidate meets the limits ({archive.limits}); the nearest has {nearest[1]}, or search longer"
