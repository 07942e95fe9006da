"""What networks of an experiment may choose for themselves, as the search space takes it."""

from __future__ import annotations

from collections.abc import Sequence

from aebnas.experiment import Experiment
from aebnas.spaces.network_genes import NetworkGenes
from aebnas.training.regimes import REGIMES


def network_genes(experiment: Experiment, precisions: Sequence[str]) -> NetworkGenes:
    """Return the genes of whole networks.

    Args:
        precisions: Those that the device allows.
    """
    return NetworkGenes(
        experiment.regime.name,
        experiment.confidence,
        experiment.cascade,
        tuple(precisions),
        experiment.search.genes,
        matters,
    )


def matters(regime: str, key: str) -> bool:
    """Tell whether the setting ``key`` of an experiment has an effect on a network trained under ``regime``."""
    block, _, rest = key.partition(".")
    return block != "regime" or rest.startswith("training.") or rest in REGIMES[regime].uses
