"""The surrogate: expected improvement by its definition, and that it finds what is plain to see."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aebnas.backbones.cut import AttachPoint
from aebnas.searching.choice import TRADE_OFF
from aebnas.searching.surrogate import Surrogate, lead_over
from aebnas.spaces.definition import SpaceDefinition
from aebnas.spaces.genome import build_genome
from aebnas.spaces.network_genes import NetworkGenes

values = st.lists(st.lists(st.integers(0, 20), min_size=2, max_size=2), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(values, values)
def test_the_lead_is_the_largest_step_back_that_is_still_not_dominated(losses, front):
    def dominated(loss, step):
        return any(all(point <= one + step for point, one in zip(other, loss, strict=True)) for other in front)

    steps = [next(step for step in range(-21, 22) if dominated(loss, step)) for loss in losses]
    assert lead_over(np.array(front, dtype=float), np.array(losses, dtype=float)).tolist() == steps


@pytest.fixture
def genome():
    space = SpaceDefinition(
        slots=1, layers={"pool": [{"kind": "max-pool", "kernel": 3}]}, heads={"plain": "pooled-linear"}
    )
    places = [AttachPoint(f"p{i}", (4, 8, 8), 100 * (i + 1)) for i in range(6)]
    return build_genome(space, places, 3, NetworkGenes("disjoint", "margin"))


def random_genes(genome, rng):
    return {name: str(rng.choice(choices)) for name, choices in genome.genes.items()} | {TRADE_OFF: rng.random()}


def study_of(genome, trials, *, constraint=None):
    rng = np.random.default_rng(0)
    study = optuna.create_study(directions=["maximize", "minimize"])
    space = {name: optuna.distributions.CategoricalDistribution(choices) for name, choices in genome.genes.items()}
    space[TRADE_OFF] = optuna.distributions.FloatDistribution(0, 1)
    for _ in range(trials):
        genes = random_genes(genome, rng)
        limits = None if constraint is None else {"macs": constraint(genes)}
        study.add_trial(
            optuna.create_trial(params=genes, distributions=space, values=[gain(genes), 1.0], constraints=limits)
        )
    return study


def gain(genes):
    """Only the first two exits are worth anything."""
    return sum(genes[name] == "on" for name in ("exit0", "exit1"))


def test_it_says_nothing_before_it_has_seen_enough(genome):
    surrogate = Surrogate(genome, 0)
    assert not surrogate.fit(study_of(genome, 15))
    pool = [random_genes(genome, np.random.default_rng(1)) for _ in range(3)]
    assert surrogate.best(pool) == pool[0]
    assert surrogate.fit(study_of(genome, 16))


def test_it_takes_what_meets_the_constraints(genome):
    """What has its last exit on breaks the limit, and what has the first two on is best."""
    rng = np.random.default_rng(2)
    surrogate = Surrogate(genome, 0)
    assert surrogate.fit(study_of(genome, 60, constraint=lambda genes: 1.0 if genes["exit5"] == "on" else -1.0))
    for _ in range(5):
        pool = [random_genes(genome, rng) | {"exit0": "off", "exit5": "on"} for _ in range(10)]
        good = random_genes(genome, rng) | {"exit0": "on", "exit1": "on", "exit5": "off"}
        pool.insert(4, good)
        assert surrogate.best(pool) == good


def test_where_nothing_meets_the_constraints_it_takes_what_comes_nearest(genome):
    rng = np.random.default_rng(3)
    surrogate = Surrogate(genome, 0)
    assert surrogate.fit(study_of(genome, 60, constraint=lambda genes: 1.0 + 5.0 * (genes["exit2"] == "on")))
    pool = [random_genes(genome, rng) | {"exit2": "on"} for _ in range(10)]
    near = random_genes(genome, rng) | {"exit2": "off"}
    assert surrogate.best([*pool, near]) == near
