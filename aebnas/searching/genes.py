"""What networks of an experiment may choose for themselves, as the search space takes it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from aebnas.experiment import Experiment
from aebnas.spaces.network_genes import REGIME, NetworkGenes, Options
from aebnas.training.regimes import matters


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
        partial(effective, experiment),
    )


def effective(experiment: Experiment, regime: str, options: Options) -> Options:
    """Return those of ``options`` (dotted keys of ``experiment``) that change how a network is trained or decides.

    A key that nothing reads under the regime and the other options is dropped, and so is the target or the start that
    the regime cannot have: it then has its own.
    """
    if not options:
        return options  # what a search without such genes asks for every network
    settings = experiment.choose({REGIME: regime, **options}).regime
    inside = settings.model_dump()
    return {
        key: value
        for key, value in options.items()
        if not key.startswith("regime.") or (matters(settings, key[7:]) and inside.get(key[7:], value) is not None)
    }
