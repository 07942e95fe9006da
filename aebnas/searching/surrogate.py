"""A model of finished trials, which chooses among samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from optuna.study import Study, StudyDirection
from optuna.trial import TrialState

from aebnas.searching.choice import TRADE_OFF
from aebnas.spaces.genome import ON, Genome

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

Floats = npt.NDArray[np.float64]
# Finished trials without which a model says nothing.
_FEWEST = 16
_TREES = 64


class Surrogate:
    """Chooses among samples by a random forest of what is finished.

    AEBNAS (arXiv 2512.10671) evolves networks on a surrogate of its two objectives. Our variant: among samples of any
    sampler it takes the one with the greatest expected maximin improvement (Svenson and Santner 2016) over the
    finished trials, which needs no reference point and works for any number of objectives; every tree of the forest is
    one guess, and a guess that violates a constraint improves nothing.
    """

    def __init__(self, genome: Genome, seed: int) -> None:
        self._genome, self._seed = genome, seed
        self._forest: RandomForestRegressor | None = None
        self._fitted = 0
        self._front, self._objectives = np.empty((0, 0)), 0

    def fit(self, study: Study) -> bool:
        """Learn from the study's finished trials; False: too few."""
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(trials) < _FEWEST:
            return False
        if len(trials) == self._fitted:
            return True
        # Here: it takes every process of a search a second and 0.1 GiB, and few searches have a surrogate.
        from sklearn.ensemble import RandomForestRegressor

        signs = [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in study.directions]
        names = sorted({name for trial in trials for name in trial.constraints})
        losses = np.array([trial.values for trial in trials]) * signs
        violations = np.array([[trial.constraints.get(name, 0.0) for name in names] for trial in trials])
        span = np.ptp(losses, axis=0)
        losses = (losses - losses.min(axis=0)) / np.where(span > 0, span, 1.0)
        self._front, self._objectives = losses[(violations <= 0).all(axis=1)], losses.shape[1]
        self._forest = RandomForestRegressor(_TREES, max_features=1 / 3, random_state=self._seed)
        self._forest.fit(self._rows([trial.params for trial in trials]), np.hstack([losses, violations]))
        self._fitted = len(trials)
        return True

    def best(self, pool: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the most promising of ``pool``; without a model, the first."""
        if self._forest is None or len(pool) == 1:
            return pool[0]
        rows = self._rows(pool).astype(np.float32)
        guesses = np.stack([tree.predict(rows).reshape(len(rows), -1) for tree in self._forest.estimators_])
        losses, violations = guesses[..., : self._objectives], guesses[..., self._objectives :]
        if not len(self._front):
            # Nothing meets the constraints yet: what comes nearest.
            return pool[int(np.maximum(violations, 0).sum(axis=2).mean(axis=0).argmin())]
        # A guess that breaks a constraint is behind by the whole span of the objectives.
        lead = np.where((violations <= 0).all(axis=2), lead_over(self._front, losses), -1.0)
        gain = np.maximum(lead, 0.0).mean(axis=0)
        # Where no tree sees anything to gain, what is least behind.
        return pool[int((gain if gain.any() else lead.mean(axis=0)).argmax())]

    def _rows(self, several: Sequence[Mapping[str, Any]]) -> Floats:
        return np.array([self._row(genes) for genes in several])

    def _row(self, genes: Mapping[str, Any]) -> list[float]:
        """Return one column per value of a gene, all nought where the gene has no effect, and the trade-off."""
        values: list[float] = []
        off = [f"exit{number}_" for number in range(len(self._genome.points)) if genes[f"exit{number}"] != ON]
        for name, choices in self._genome.genes.items():
            used = not name.startswith(tuple(off))
            values += [float(used and genes[name] == choice) for choice in choices]
        return [*values, float(genes[TRADE_OFF])]


def lead_over(front: Floats, losses: Floats) -> Floats:
    """Return how far ``losses`` (..., objectives) are ahead of ``front`` (points, objectives), below 0 if behind.

    That is the most that could be added to all objectives before some point of the front is at least as good in every
    one of them.
    """
    return np.asarray((front - losses[..., None, :]).max(axis=-1).min(axis=-1))
