"""All variants beside each other: figures by seed, means with their spread, differences to the first one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aebnas.comparing.compare import Comparison
from aebnas.comparing.estimates import Difference, Estimate, estimate, paired
from aebnas.comparing.figures import Scale, curve, figures
from aebnas.exits.accuracy import AccuracyKind

BySeed = dict[int, float | None]


@dataclass(frozen=True)
class VariantSummary:
    """One variant.

    Args:
        values: Figure -> by seed.
        differences: Figure -> to the first variant, paired by seed; empty for the first one.
        curves: By seed, (cost as a share of the backbone's, accuracy) on test at every budget of the scale.
    """

    name: str
    epochs: tuple[int, int] | None
    values: Mapping[str, BySeed]
    differences: Mapping[str, Difference]
    curves: Mapping[int, list[tuple[float, float] | None]]
    failure: str | None

    def mean(self, figure: str) -> Estimate | None:
        """Return mean and spread of a figure, None where no seed knows it."""
        return estimate(list(self.values.get(figure, {}).values()))


@dataclass(frozen=True)
class StaticSummary:
    """One static network: its cost as a share of the backbone's, its accuracy on test."""

    name: str
    cost: float
    accuracy: Estimate


@dataclass(frozen=True)
class Summary:
    """What tables, pictures and files show.

    Args:
        epochs: Of every variant in all.
        seeds: That every variant was to be trained from.
        accuracy: Which one all accuracies are.
    """

    cost: str
    scale: Scale
    variants: tuple[VariantSummary, ...]
    statics: tuple[StaticSummary, ...]
    epochs: int
    seeds: int
    failures: Mapping[str, str]
    accuracy: AccuracyKind = "plain"

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "accuracy": self.accuracy,
            "cost": self.cost,
            "backbone_cost": self.scale.backbone,
            "budgets": list(self.scale.budgets),
            "epochs": self.epochs,
            "seeds": self.seeds,
            "statics": [asdict(static) for static in self.statics],
            "variants": [_variant_json(variant) for variant in self.variants],
            "failures": dict(self.failures),
        }


def summarise(comparison: Comparison) -> Summary:
    """Return the figures of every variant of ``comparison``, and of the static networks."""
    scale, names = Scale.of(comparison), list(comparison.results)
    values = {name: _values(comparison, name, scale) for name in names}
    return Summary(
        comparison.experiment.compare.cost,
        scale,
        tuple(
            VariantSummary(
                name,
                _epochs(comparison, name),
                values[name],
                {} if name == names[0] else _differences(values[name], values[names[0]]),
                {seed: curve(result, scale) for seed, result in comparison.results[name].items()},
                comparison.failures.get(name),
            )
            for name in names
        ),
        _statics(comparison, scale),
        comparison.experiment.compare.epochs,
        comparison.experiment.compare.seeds,
        comparison.failures,
        comparison.experiment.accuracy,
    )


def _values(comparison: Comparison, name: str, scale: Scale) -> dict[str, BySeed]:
    found: dict[str, BySeed] = {}
    for seed, result in comparison.results[name].items():
        backbone = comparison.statics[None].get(seed)
        for figure, value in figures(result, scale, None if backbone is None else backbone.accuracy_val).items():
            found.setdefault(figure, {})[seed] = value
    return found


def _differences(values: Mapping[str, BySeed], reference: Mapping[str, BySeed]) -> dict[str, Difference]:
    pairs = {figure: paired(values[figure], reference.get(figure, {})) for figure in values}
    return {figure: difference for figure, difference in pairs.items() if difference is not None}


def _epochs(comparison: Comparison, name: str) -> tuple[int, int] | None:
    """Return the epochs of the trained backbone and after it."""
    result = next(iter(comparison.results[name].values()), None)
    return None if result is None else (result.backbone_epochs, result.epochs)


def _statics(comparison: Comparison, scale: Scale) -> tuple[StaticSummary, ...]:
    prices, found = next(iter(comparison.prices.values())), []
    for exit_, results in comparison.statics.items():
        accuracy = estimate([result.accuracy_test for result in results.values()])
        if accuracy is not None:
            cost = prices.backbone if exit_ is None else prices.truncated[exit_]
            name = "static backbone" if exit_ is None else f"truncated at exit {exit_ + 1}"
            found.append(StaticSummary(name, cost / scale.backbone, accuracy))
    return tuple(found)


def _variant_json(variant: VariantSummary) -> dict[str, Any]:
    means = {figure: variant.mean(figure) for figure in variant.values}
    return {
        "name": variant.name,
        "epochs": variant.epochs,
        "failure": variant.failure,
        "figures": {figure: None if mean is None else asdict(mean) for figure, mean in means.items()},
        "differences": {figure: asdict(difference) for figure, difference in variant.differences.items()},
        "seeds": variant.values,
        "curves": variant.curves,
    }
