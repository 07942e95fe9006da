"""Networks of branches that are there already: which are put together, and that they train nothing."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from test_sampler import genome_of

import aebnas
from aebnas.branches.spec import NetworkSpec
from aebnas.exits.curve import Curve
from aebnas.searching.evaluation import Evaluation, StaticPoint
from aebnas.searching.recombine import Recombiner
from aebnas.searching.study import RECOMBINED, SPEC, read_trials
from aebnas.spaces.genome import ON, branches_at
from aebnas.spaces.network_genes import NetworkGenes

# What a branch of a shape reaches, and what the network that ends there costs beside its attach point.
WORTH = {
    (): (0.5, 0),
    ("pool",): (0.6, 1),
    ("wide",): (0.7, 2),
    ("wide", "pool"): (0.65, 3),
    ("pool", "wide"): (0.8, 4),
}
DOMINATED = ("wide", "pool")


class World:
    """A study and its evaluations, made up."""

    def __init__(self, genome, each=1):
        self.genome, self.evaluations = genome, {}
        self.study = optuna.create_study(directions=["maximize", "minimize"])
        self.recombiner = Recombiner(genome, "macs", each, seed=0)

    def add(self, *shapes, stopped=(), settings=None, state=TrialState.COMPLETE, recombined=False):
        """Add a trial of one network for each of ``shapes``: attach point -> names of layers."""
        for shape in shapes:
            genes = branches_at(self.genome, (), ()) | self.genome.network.variations()[0] | (settings or {})
            for point, layers in shape.items():
                own = branches_at(self.genome, layers, {point})
                genes |= {name: own[name] for name in own if name.startswith(f"exit{point}")}
            spec = self.genome.decode(genes)
            self.evaluations[spec.key] = self._evaluation(spec, list(shape.items()), stopped)
            self.put(genes, state, recombined)

    def put(self, genes, state=TrialState.COMPLETE, recombined=False):
        own = {name: value for name, value in genes.items() if name in self.genome.genes}
        distributions = {name: optuna.distributions.CategoricalDistribution(self.genome.genes[name]) for name in own}
        done = state == TrialState.COMPLETE
        attributes = {RECOMBINED: True} if recombined else {}
        self.study.add_trial(
            create_trial(
                state=state,
                params=own,
                distributions=distributions,
                values=[0.5, 1.0] if done else None,
                user_attrs=attributes,
            )
        )

    def _evaluation(self, spec, shapes, stopped):
        static, epochs = [], []
        for point, layers in sorted(shapes):
            accuracy, macs = WORTH[tuple(layers)]
            static.append(StaticPoint(accuracy + point / 100, {"macs": 100.0 * point + macs}))
            epochs.append(1 if point in stopped else None)
        keys = [branch.key for branch in spec.branches]
        return Evaluation(
            spec, "search", ("macs",), Curve(()), tuple(static), {"branches": keys}, 1.0, epochs=tuple(epochs)
        )

    def next(self):
        genes = self.recombiner.next(self.study.get_trials(deepcopy=False), self.evaluations)
        return None if genes is None else (self.genome.decode(genes), genes)

    def all(self):
        """Everything that it would try, one after the other."""
        found = []
        while (new := self.next()) is not None:
            found.append(new[0])
            self.put(new[1], recombined=True)
        return found


def branches_of(world, *shapes):
    """The branches of ``shapes``: (attach point, layers)."""
    found = set()
    for point, layers in shapes:
        genes = branches_at(world.genome, layers, {point}) | world.genome.network.variations()[0]
        found |= set(world.genome.decode(genes).branches)
    return found


def test_all_that_known_branches_make_is_tried_once_and_nothing_else():
    world = World(genome_of(), each=100)
    world.add({0: ("wide",), 1: ("pool",)}, {1: ("wide",), 2: ()}, {0: (), 2: ("pool",)})
    known = branches_of(world, (0, ("wide",)), (0, ()), (1, ("pool",)), (1, ("wide",)), (2, ()), (2, ("pool",)))
    found = world.all()
    # At each of three points one of two.
    assert len({spec.key for spec in found}) == len(found) == 8
    assert all(len(spec.branches) == 3 and set(spec.branches) <= known for spec in found)


def test_what_is_dominated_at_its_point_or_was_stopped_is_left_out():
    world = World(genome_of(), each=100)
    world.add({0: ("wide",)}, {0: DOMINATED}, {1: ("pool",)}, {0: ("pool", "wide")})
    world.add({1: ("pool", "wide")}, stopped=(1,))
    found = world.all()
    used = {branch for spec in found for branch in spec.branches}
    assert used == branches_of(world, (0, ("wide",)), (0, ("pool", "wide")), (1, ("pool",)))


def test_a_network_takes_no_more_exits_than_it_may_have():
    genome = genome_of(points=6)
    world = World(genome, each=100)
    world.add(dict.fromkeys(range(4), ()), dict.fromkeys(range(2, 6), ()))
    found = world.all()
    assert {len(spec.branches) for spec in found} == {genome.max_exits}
    # Every choice of four of six points but the two that were there.
    assert len(found) == 13


@pytest.mark.parametrize("each", [0, 1, 2])
def test_so_many_for_each_other_trial(each):
    world = World(genome_of(), each)
    world.add({0: ("wide",), 1: ("pool",)}, {1: ("wide",), 2: ()}, {0: (), 2: ("pool",)})
    assert len(world.all()) == 3 * each


def test_queued_trials_come_first():
    world = World(genome_of())
    world.add({0: ("wide",), 1: ("pool",)}, {1: ("wide",), 2: ()})
    assert world.next() is not None
    world.study.enqueue_trial({"exit0": ON})
    assert world.next() is None


def test_branches_of_other_training_settings_are_not_mixed():
    chosen = NetworkGenes("disjoint", "margin", choices={"regime.label_smoothing": (0.0, 0.1)})
    genome = genome_of()
    genome = type(genome)(**{**vars(genome), "genes": {**genome.genes, **chosen.genes}, "network": chosen})
    world = World(genome, each=100)
    world.add({0: ("wide",)}, {1: ("wide",)}, settings={"regime.label_smoothing": "0.0"})
    world.add({0: ("pool",)}, {1: ("pool",)}, settings={"regime.label_smoothing": "0.1"})
    found = {frozenset(spec.branches): dict(spec.options)["regime.label_smoothing"] for spec in world.all()}
    assert found == {
        frozenset(branches_of(world, (0, ("wide",)), (1, ("wide",)))): 0.0,
        frozenset(branches_of(world, (0, ("pool",)), (1, ("pool",)))): 0.1,
    }


@pytest.mark.parametrize("settings", [{"regime": "joint"}, {"regime": "calex"}, {"cascade": "inputs"}])
def test_where_a_new_network_has_to_train_there_are_none(settings):
    chosen = NetworkGenes(settings.get("regime", "disjoint"), "margin", settings.get("cascade", "none"))
    genome = genome_of()
    world = World(type(genome)(**{**vars(genome), "network": chosen}), each=100)
    world.add({0: ("wide",), 1: ("pool",)}, {1: ("wide",), 2: ()})
    assert world.next() is None


def test_a_whole_search_trains_nothing_for_them(tmp_path):
    experiment = aebnas.Experiment.model_validate(
        {
            "search": {"trials": 14, "objectives": ["accuracy", "macs"], "finalists": 1, "rungs": False},
            "regime": {"training": {"epochs": 1}, "final_epochs": 1},
            "backbone_training": {"epochs": 1},
            "accelerator": "cpu",
        }
    )
    run = aebnas.search(experiment, run_dir=tmp_path / "run")
    trials = read_trials(run.folder, experiment)
    known, seen, recombined = set(), set(), 0
    for trial in trials:
        spec = NetworkSpec.from_json(trial.user_attrs[SPEC])
        own = {branch.key for branch in spec.branches}
        if RECOMBINED in trial.user_attrs:
            recombined += 1
            assert own <= known
            assert spec.key not in seen
        known |= own
        seen.add(spec.key)
    # The first ones are queued: five known shapes; then one for each of these, as long as that makes something new.
    assert 3 <= recombined <= 7
