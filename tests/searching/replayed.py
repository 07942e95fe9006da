"""Recorded searches, run again with trainings stopped by the rule: what that saves, and what it loses."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aebnas.branches.spec import BranchSpec, NetworkSpec
from aebnas.exits.curve import Curve
from aebnas.exits.dominance import nondominated
from aebnas.searching.evaluation import Evaluation, StaticPoint
from aebnas.searching.frontier import Reference
from aebnas.searching.rungs import Ledger, Rule

RECORDED = Path(__file__).parent / "recorded"


@dataclass(frozen=True)
class Outcome:
    """What stopping did to one search.

    Args:
        saved: Share of all epochs that was never trained, before and after settling.
        lost: Front points that are less accurate at the end than without stopping, of ``points``.
        lost_alone: The same of static truncated networks.
        hypervolume: By how much it is smaller.
    """

    saved: float
    saved_settled: float
    lost: int
    points: int
    lost_alone: int
    hypervolume: float


class Replay:
    """One recorded search, taken in any order.

    A network of branches that were stopped is not on record. Its points are estimated: each loses, of the share that
    leaves at a branch, what this branch lacks in accuracy. That is more than it would really lose, as those who leave
    are the ones it is sure of.
    """

    def __init__(self, name: str, costs: tuple[str, ...], rule: Rule) -> None:
        record = json.loads((RECORDED / f"{name}.json").read_text())
        self.columns = [record["costs"].index(cost) for cost in costs]
        self.costs, self.rule = costs, rule
        self.curves, self.networks = record["curves"], record["networks"]
        self.backbone = StaticPoint(record["backbone"][0], self._costs(record["backbone"][1]))
        self.samples = record["samples"]
        self.every = sum(map(len, self.curves))

    def outcome(self, seed: int) -> Outcome:
        """Run the search in the order of its trials (seed 0), or in a random one."""
        order = list(self.networks)
        if seed:
            random.Random(seed).shuffle(order)
        self.done = [0] * len(self.curves)
        ledger = Ledger(self.costs, self.backbone, self.samples, self.rule)
        for network in order:
            self._train(network, ledger)
            ledger.add(self._evaluation(network))
        before = sum(self.done)
        self._settle(order, ledger)
        (whole, alone), (now, now_alone) = self._points(False), self._points(True)
        front = self._front(whole + alone)
        points = [place for place in front if place < len(whole)]
        reference = Reference(self.backbone.accuracy, self.backbone.costs[self.costs[0]])
        volume = [reference.hypervolume([(a, c[0]) for a, c, _ in points]) for points in (whole, now)]
        return Outcome(
            1 - before / self.every,
            1 - sum(self.done) / self.every,
            sum(now[place][0] < whole[place][0] - 1e-9 for place in points),
            len(points),
            sum(now_alone[place][0] < alone[place][0] - 1e-9 for place in self._front(alone)),
            volume[0] - volume[1],
        )

    def _train(self, network, ledger: Ledger) -> None:
        for branch, (_, costs) in zip(network["branches"], network["alone"], strict=True):
            curve, watch = self.curves[branch], ledger.watch(_spec(branch), [self._costs(costs)])
            while self.done[branch] < len(curve):
                epochs = self.done[branch]
                if epochs and not watch(0, epochs, max(curve[:epochs])):
                    break
                self.done[branch] += 1

    def _settle(self, order, ledger: Ledger) -> None:
        for network in order:
            self._train(network, ledger)
        while True:
            points, alone = self._points(True)
            best = [place for place in self._front(points + alone) if place < len(points)]
            left = {branch for place in best for branch in points[place][2] if self._lacks(branch)}
            if not left:
                return
            for branch in left:
                self.done[branch] = len(self.curves[branch])

    def _evaluation(self, network) -> Evaluation:
        branches = network["branches"]
        alone = tuple(
            StaticPoint(accuracy - self._lacks(branch), self._costs(costs))
            for branch, (accuracy, costs) in zip(branches, network["alone"], strict=True)
        )
        epochs = [None if self.done[branch] == len(self.curves[branch]) else self.done[branch] for branch in branches]
        spec = NetworkSpec(tuple(_spec(branch).branches[0] for branch in branches))
        curves = tuple(tuple(self.curves[branch][: self.done[branch]]) for branch in branches)
        weights = {"branches": [str(branch) for branch in branches]}
        return Evaluation(
            spec, "search", self.costs, Curve(()), alone, weights, 0.0, curves=curves, epochs=tuple(epochs)
        )

    def _points(self, stopped: bool):
        """Return (accuracy, costs, branches) of every operating point, and of every branch alone."""
        points, alone = [], []
        for network in self.networks:
            branches = network["branches"]
            lacks = [self._lacks(branch) if stopped else 0.0 for branch in branches]
            points += [
                (accuracy - float(np.dot(shares, lacks)), self._row(costs), branches)
                for accuracy, costs, shares in network["points"]
            ]
            alone += [
                (accuracy - less, self._row(costs), [])
                for (accuracy, costs), less in zip(network["alone"], lacks, strict=True)
            ]
        return points, alone

    @staticmethod
    def _front(points) -> list[int]:
        accuracy = np.array([round(point[0] * 1_000_000) for point in points])
        return nondominated(accuracy, np.array([point[1] for point in points]).T).tolist()

    def _lacks(self, branch: int) -> float:
        """Return what a branch would still gain."""
        curve = self.curves[branch]
        return max(curve) - max(curve[: self.done[branch]])

    def _row(self, costs) -> list[float]:
        return [costs[column] for column in self.columns]

    def _costs(self, costs) -> dict[str, float]:
        return dict(zip(self.costs, self._row(costs), strict=True))


def _spec(branch: int) -> NetworkSpec:
    return NetworkSpec((BranchSpec(f"branch{branch}"),))
