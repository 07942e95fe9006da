"""The networks that the trials of a study are of."""

from __future__ import annotations

from typing import NamedTuple

from optuna.trial import FrozenTrial

from aebnas.branches.spec import NetworkSpec
from aebnas.spaces.genome import Genome

# Where Optuna keeps the genes of a queued trial.
FIXED = "fixed_params"


class Network(NamedTuple):
    """What a trial is of, and its key."""

    spec: NetworkSpec
    key: str


class Networks:
    """Decodes every trial once: a search asks for the networks of all of them before each new one."""

    def __init__(self, genome: Genome) -> None:
        self._genome = genome
        self._known: dict[int, Network] = {}

    def of(self, trial: FrozenTrial) -> Network | None:
        """Return the network of a trial, queued ones among them; None: not all of its genes are there yet."""
        if trial.number not in self._known:
            genes = {**trial.system_attrs.get(FIXED, {}), **trial.params}
            if not all(genes.get(name) in choices for name, choices in self._genome.genes.items()):
                return None
            spec = self._genome.decode(genes)
            self._known[trial.number] = Network(spec, spec.key)
        return self._known[trial.number]
