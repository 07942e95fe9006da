"""What Optuna sees of a curve: one point, its objectives and how far it is from the limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aebnas.costs.kinds import BY_LIMIT, COSTS
from aebnas.devices.profile import Limits
from aebnas.exits.curve import Curve, OperatingPoint, Target
from aebnas.experiment import Experiment
from aebnas.experiment_search import SearchSettings
from aebnas.searching.evaluation import Evaluation, StaticPoint

TRADE_OFF = "trade_off"
# Accuracy that is worth as much as the whole of the backbone's cost when the trade-off gene is in the middle.
_ACCURACY_SCALE = 0.05


@dataclass(frozen=True)
class CostLimits:
    """Upper limits of costs by name, each in its cost's own unit."""

    limits: Mapping[str, float]

    @classmethod
    def of(cls, *limits: Limits) -> CostLimits:
        """Take the limits of a hardware profile and of an experiment; of the same key, the last one counts."""
        named = {key: value for one in limits for key, value in one.model_dump().items() if value is not None}
        return cls({kind.name: named[key] * kind.scale for key, kind in BY_LIMIT.items() if key in named})

    def violations(self, evaluation: Evaluation, point: OperatingPoint) -> list[float]:
        """Return cost / limit - 1 for every limit: above 0 is infeasible."""
        return [evaluation.cost(point, name) / limit - 1.0 for name, limit in self.limits.items()]

    def allowed(self, evaluation: Evaluation, point: OperatingPoint) -> bool:
        """Tell whether ``point`` meets every limit."""
        return all(violation <= 0 for violation in self.violations(evaluation, point))

    def allow_static(self, static: StaticPoint) -> bool:
        """Tell whether a static network meets every limit."""
        return all(static.costs[name] <= limit for name, limit in self.limits.items())

    def __str__(self) -> str:
        # As the keys of limits say it: MACs in millions.
        kinds = {COSTS[name]: limit for name, limit in self.limits.items()}
        return ", ".join(f"{kind.limit} <= {limit / kind.scale:g}" for kind, limit in kinds.items())


def wanted_costs(experiment: Experiment, limits: CostLimits) -> list[str]:
    """Return the names of the costs that are an objective, a limit or the target, each once."""
    target = experiment.search.target
    names = [*experiment.search.cost_objectives, *limits.limits, *([target.cost] if target else [])]
    return list(dict.fromkeys(names))


def choose_point(
    evaluation: Evaluation,
    backbone: StaticPoint,
    settings: SearchSettings,
    limits: CostLimits,
    trade_off: float,
) -> OperatingPoint:
    """Return the point of a curve that stands for its network.

    With a target or limits: the best point that meets them, or the nearest where none does. Without: the best by a
    weighted sum of cost saved and accuracy lost, whose weight ``trade_off`` in [0, 1] is a gene, so that a sampler
    moves along the front.
    """
    allowed = allowed_points(evaluation, limits)
    if not allowed.points:
        return min(evaluation.curve.points, key=lambda point: max(limits.violations(evaluation, point)))
    if settings.target is not None:
        wish = settings.target
        index = evaluation.cost_names.index(wish.cost)
        met = allowed.best(Target(wish.value, wish.rule, index, wish.min_accuracy))
        return met or min(allowed.points, key=lambda point: abs(evaluation.cost(point, wish.cost) - wish.value))
    if limits.limits:
        return max(allowed.points, key=lambda point: point.accuracy)
    name = settings.cost_objectives[0]

    def loss(point: OperatingPoint) -> float:
        cost = evaluation.cost(point, name) / backbone.costs[name]
        return trade_off * cost + (1 - trade_off) * (backbone.accuracy - point.accuracy) / _ACCURACY_SCALE

    return min(allowed.points, key=loss)


def objective_values(evaluation: Evaluation, point: OperatingPoint, settings: SearchSettings) -> list[float]:
    """Return the value of every objective at ``point``, in the order of the settings."""
    return [point.accuracy if name == "accuracy" else evaluation.cost(point, name) for name in settings.objectives]


def allowed_points(evaluation: Evaluation, limits: CostLimits) -> Curve:
    """Return the part of a curve that meets every limit."""
    return Curve(tuple(point for point in evaluation.curve.points if limits.allowed(evaluation, point)))
