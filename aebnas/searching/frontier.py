"""Two-objective geometry: hypervolume over accuracy and one cost, and choosing points by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """What hypervolume is measured against: the static backbone, and the accuracy below which nothing counts.

    A hypervolume of 1 is the backbone's accuracy at no cost; points more than ``depth`` (0 to 1) less accurate than
    the backbone, or dearer than it, count nothing.
    """

    accuracy: float
    cost: float
    depth: float = 0.1

    def hypervolume(self, points: Sequence[tuple[float, float]]) -> float:
        """Return the share of the reference rectangle that ``points`` (accuracy, cost) dominate.

        O(n log n): a sweep by rising cost; each point adds the strip above the best accuracy so far.
        """
        floor = self.accuracy - self.depth
        area, best = 0.0, floor
        for accuracy, cost in sorted(points, key=lambda point: point[1]):
            if cost >= self.cost:
                break
            if accuracy > best:
                area += (accuracy - best) * (self.cost - cost)
                best = accuracy
        return area / (self.depth * self.cost)

    def spread(
        self,
        points: Sequence[tuple[float, float]],
        count: int,
        first: Sequence[int] = (),
        *,
        groups: Sequence[str] | None = None,
        beside: Sequence[tuple[float, float]] = (),
    ) -> list[int]:
        """Return the indices of up to ``count`` points that together dominate most, chosen greedily.

        Greedy choice is within 1 - 1/e of the best subset, hypervolume being submodular. ``first`` are taken before;
        of points of the same group only one is taken; what the points ``beside`` dominate anyway does not count.
        """
        chosen = list(first)[:count]
        while len(chosen) < count:
            covered = [*beside, *(points[i] for i in chosen)]
            base = self.hypervolume(covered)
            taken = {groups[i] for i in chosen} if groups else set()
            gains = [
                (self.hypervolume([*covered, point]) - base, i)
                for i, point in enumerate(points)
                if not groups or groups[i] not in taken
            ]
            gain, best = max(gains, default=(0.0, -1))
            if gain <= 1e-12:
                break
            chosen.append(best)
        return chosen
