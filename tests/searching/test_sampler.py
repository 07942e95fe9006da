"""Samplers: every gene, no network twice, queued trials in the population, the same for the same seed."""

from __future__ import annotations

import itertools

import optuna
import pytest
from optuna.trial import TrialState

from aebnas.backbones.cut import AttachPoint
from aebnas.experiment_search import SAMPLERS, SearchSettings
from aebnas.searching.choice import TRADE_OFF
from aebnas.searching.sampler import make_sampler
from aebnas.spaces.definition import SpaceDefinition
from aebnas.spaces.genome import build_genome
from aebnas.spaces.network_genes import NetworkGenes

LAYERS = {"wide": [{"kind": "conv", "kernel": 3, "channels": 2}], "pool": [{"kind": "max-pool", "kernel": 3}]}


def genome_of(points=3, slots=2, layers=("wide", "pool")):
    space = SpaceDefinition(
        slots=slots, layers={name: LAYERS[name] for name in layers}, heads={"plain": "pooled-linear"}
    )
    places = [AttachPoint(f"p{i}", (4, 16, 16), 100 * (i + 1)) for i in range(points)]
    return build_genome(space, places, 3, NetworkGenes("disjoint", "margin"))


def value_of(spec):
    """An accuracy and a cost that go up with layers and exits."""
    layers = sum(len(branch.layers) for branch in spec.branches)
    return [len(spec.branches) + 0.5 * layers, len(spec.branches) + layers]


def ask(study, genome):
    trial = study.ask()
    genes = {name: trial.suggest_categorical(name, choices) for name, choices in genome.genes.items()}
    trial.suggest_float(TRADE_OFF, 0.0, 1.0)
    return trial, genome.decode(genes)


def run(genome, trials, *, seed=0, constrained=False, queued=(), **settings):
    sampler = make_sampler(SearchSettings(population=4, **settings), seed, genome)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for genes in queued:
        study.enqueue_trial(genes)
    specs = []
    for _ in range(trials):
        trial, spec = ask(study, genome)
        if constrained:
            trial.set_constraint("macs", value_of(spec)[1] - 4)
        study.tell(trial, value_of(spec))
        specs.append(spec)
    return study, specs


@pytest.mark.parametrize("surrogate", [False, True])
@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_network_is_proposed_twice_and_seeds_repeat_themselves(sampler, constrained, surrogate):
    genome = genome_of()
    trials = 22 if sampler != "gp" else 12
    options = {"sampler": sampler, "constrained": constrained, "surrogate": surrogate}
    study, specs = run(genome, trials, **options)
    assert len({spec.key for spec in specs}) == trials
    for trial in study.trials:
        assert set(trial.params) == {*genome.genes, TRADE_OFF}
    assert run(genome, trials, **options)[1] == specs
    assert run(genome, trials, seed=1, **options)[1] != specs


@pytest.mark.parametrize("sampler", ["random", "nsga2", "tpe"])
def test_a_small_space_is_tried_out_and_then_gone_on_with(sampler):
    genome = genome_of(points=2, slots=1, layers=("pool",))
    every = {
        genome.decode(dict(zip(genome.genes, values, strict=True))).key
        for values in itertools.product(*genome.genes.values())
    }
    _, specs = run(genome, len(every) + 3, sampler=sampler)
    assert {spec.key for spec in specs[: len(every)]} == every


def test_what_is_running_queued_or_failed_is_not_proposed():
    genome = genome_of(points=1, slots=1, layers=("pool",))
    off, bare, pool = (
        {"exit0": on, "exit0_layer0": layer, "exit0_head": "plain"}
        for on, layer in [("off", "none"), ("on", "none"), ("on", "pool")]
    )
    for seed in range(5):
        study = optuna.create_study(
            directions=["maximize", "minimize"], sampler=make_sampler(SearchSettings(), seed, genome)
        )
        study.add_trial(optuna.create_trial(state=TrialState.FAIL, params=off, distributions=distributions(genome)))
        study.enqueue_trial(bare)
        running, spec = ask(study, genome)
        assert spec == genome.decode(bare)
        _, spec = ask(study, genome)
        assert spec == genome.decode(pool)
        assert running.number == 1


def distributions(genome):
    return {name: optuna.distributions.CategoricalDistribution(choices) for name, choices in genome.genes.items()}


class Stubborn(optuna.samplers.RandomSampler):
    def __init__(self, said):
        super().__init__(seed=0)
        self.said = said

    def sample_relative(self, study, trial, search_space):
        return self.said


def test_a_known_network_gives_way_to_one_near_it():
    """A sampler that says the same for ever ends up with networks that differ from it in one gene."""
    genome = genome_of()
    said = {name: choices[0] for name, choices in genome.genes.items()} | {"exit1": "on", TRADE_OFF: 0.25}
    sampler = make_sampler(SearchSettings(), 0, genome)
    sampler.inner = Stubborn(said)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for number in range(6):
        trial, spec = ask(study, genome)
        changed = sum(trial.params[name] != said[name] for name in genome.genes)
        assert (spec == genome.decode(said)) == (number == 0)
        assert trial.params[TRADE_OFF] == 0.25
        assert changed >= (number > 0)
        study.tell(trial, [0.0, 0.0])


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3"])
def test_queued_trials_become_parents(sampler):
    """Optuna asks no sampler about a trial whose genes are all fixed, and so gave it no generation."""
    genome = genome_of()
    start = {name: choices[-1] for name, choices in genome.genes.items()} | {TRADE_OFF: 0.5}
    study, _ = run(genome, 5, sampler=sampler, queued=[start])
    inner = study.sampler.inner
    assert [trial.number for trial in inner.get_population(study, 0)] == [0, 1, 2, 3]
    assert inner.get_trial_generation(study, study.trials[4]) == 1


def test_half_fixed_trials_keep_what_is_fixed():
    genome = genome_of()
    _, specs = run(genome, 2, queued=[{"exit0": "on", "exit1": "on"}, {"exit0": "on", "exit1": "on"}])
    assert all([branch.attach for branch in spec.branches][:2] == ["p0", "p1"] for spec in specs)
    assert specs[0] != specs[1]


def test_the_sampler_inside_is_the_one_asked_for():
    names = {name: type(make_sampler(SearchSettings(sampler=name), 0, genome_of()).inner).__name__ for name in SAMPLERS}
    assert names == {
        "nsga2": "NSGAIISampler",
        "nsga3": "NSGAIIISampler",
        "tpe": "TPESampler",
        "gp": "GPSampler",
        "random": "RandomSampler",
    }
