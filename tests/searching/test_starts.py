"""Known shapes, and networks of earlier runs that begin a search."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from aebnas.backbones.cut import AttachPoint
from aebnas.branches.spec import BranchSpec, NetworkSpec, PartSpec
from aebnas.errors import ExperimentError
from aebnas.experiment import Experiment
from aebnas.files import write_json, write_text
from aebnas.run import Run
from aebnas.run_folder import RunFolder
from aebnas.searching.starts import MOST_EARLIER, starting_genes
from aebnas.spaces.definition import load_space
from aebnas.spaces.genome import build_genome, starting_points
from aebnas.spaces.network_genes import NetworkGenes

# Two thirds of the MACs lie before the second of five points.
MACS = [100, 700, 800, 900, 1000]
COMPACT = load_space("compact")


def genome_of(space=COMPACT, macs=MACS, network=None, prefix="p"):
    places = [AttachPoint(f"{prefix}{i}", (8, 16, 16), cost) for i, cost in enumerate(macs)]
    return build_genome(space, places, 3, network or NetworkGenes("disjoint", "margin"))


def experiment(**search):
    return Experiment.embedded().override({f"search.{key}": value for key, value in {"starts": True, **search}.items()})


def attached(spec):
    return [branch.attach for branch in spec.branches]


def test_a_search_begins_with_known_shapes():
    genome = genome_of()
    specs = [genome.decode(genes) for genes in starting_genes(genome, experiment(), COMPACT)]
    spread = [genome.decode(genes) for genes in starting_points(genome)]
    assert specs[: len(spread)] == spread
    # Exits at even cost: 0.2, 0.4, 0.6 and 0.8 of the MACs, for which there are three points.
    even, typical, single = specs[len(spread) :]
    assert attached(even) == attached(typical) == ["p0", "p1", "p2"]
    assert {branch.layers for branch in even.branches} == {specs[1].branches[0].layers}
    assert {branch.layers for branch in typical.branches} == {COMPACT.layer_choices()["conv3-s2-w2"]}
    assert attached(single) == ["p1"]
    assert len({spec.key for spec in specs}) == len(specs)


@pytest.mark.parametrize("space", ["aebnas-layers", "aebnas-stages", "digits"])
def test_every_packaged_space_has_starts_with_layers(space):
    definition = load_space(space)
    genome = genome_of(definition)
    specs = [genome.decode(genes) for genes in starting_genes(genome, experiment(), definition)]
    assert len(specs) >= 4
    assert all(branch.layers for branch in specs[1].branches)


def test_a_shape_that_comes_twice_is_tried_once():
    genome = genome_of(macs=[500])
    specs = [genome.decode(genes) for genes in starting_genes(genome, experiment(), COMPACT)]
    assert len(specs) == len(set(specs)) == 1 + len(starting_points(genome))


def test_known_shapes_may_be_left_out():
    assert starting_genes(genome_of(), experiment(starts=False), COMPACT) == []


def branch(attach, *layers, head="pooled-linear"):
    parts = [part for name in layers for part in COMPACT.layer_choices()[name]]
    return BranchSpec(attach, tuple(parts), COMPACT.head_choices()[head])


@pytest.fixture
def finished(tmp_path):
    """Write a finished run whose front holds these networks, the first of them finalists."""

    def write(*networks, finalists=1, name="earlier"):
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir()
        write_text(folder.experiment_file, Experiment.embedded().to_yaml())
        rows = [
            {
                **network.to_json(),
                "exits": [each.to_json() for each in network.branches],
                "id": f"{number}",
                "finalist": number < finalists,
                "static": False,
                "weights": {},
                "accuracy_val": 0.9,
                "macs_mean": 1.0,
                "latency_ms_mean": None,
                "latency_ms_measured": None,
            }
            for number, network in enumerate(networks)
        ]
        static = {**rows[0], "id": "backbone", "static": True, "exits": []}
        write_json(folder.front_file, [*rows, static])
        return folder.path

    return write


def begun(path, genome, space=COMPACT):
    genes = starting_genes(genome, experiment(starts=False, start_from=(path,)), space)
    return [genome.decode(each) for each in genes]


def test_the_best_of_an_earlier_run_come_first(finished):
    one = NetworkSpec((branch("p0", "conv3-s2", "max-pool"), branch("p3", head="expand-mix-2")), confidence="margin")
    other = NetworkSpec((branch("p2", "shrink"),), confidence="margin")
    genome = genome_of()
    path = finished(one, one, other)
    assert begun(path, genome) == [one, other]
    every = starting_genes(genome, experiment(start_from=(path,)), COMPACT)
    assert [genome.decode(genes) for genes in every[:2]] == [one, other]
    assert every[2:] == starting_genes(genome, experiment(), COMPACT)


def test_of_many_networks_finalists_and_others_all_over_the_front_are_taken(finished):
    specs = [NetworkSpec((branch(f"p{i % 5}", *["max-pool"] * (i // 5)),), confidence="margin") for i in range(20)]
    taken = begun(finished(*specs, finalists=3), genome_of())
    assert len(taken) == MOST_EARLIER
    assert taken[:3] == specs[:3]
    assert taken[3] == specs[3]
    assert taken[-1] == specs[-1]


def test_points_of_other_names_are_matched_by_their_share_of_the_macs(finished, monkeypatch):
    points = [AttachPoint(f"old{i}", (8, 16, 16), macs) for i, macs in enumerate([10, 35, 40, 50])]
    backbone = SimpleNamespace(attach_points=points)
    monkeypatch.setattr(Run, "prepared", lambda self: SimpleNamespace(backbone=backbone))
    old = NetworkSpec((branch("old0", "conv3"), branch("old1", "shrink"), branch("old3")), confidence="margin")
    # 0.2, 0.7 and 1 of the MACs.
    (new,) = begun(finished(old), genome_of())
    assert attached(new) == ["p0", "p1", "p4"]
    assert [each.layers for each in new.branches] == [each.layers for each in old.branches]


def test_branches_that_this_search_cannot_have_are_left_out_and_said(finished, caplog):
    foreign = BranchSpec("p1", (PartSpec.of("conv", kernel=5),))
    twice, whole = branch("p2", "conv3"), NetworkSpec((branch("p0", "conv3"),), confidence="margin")
    partly = NetworkSpec((branch("p0", "shrink"), foreign, twice, branch("p9")), confidence="margin")
    nothing = NetworkSpec((foreign,), confidence="margin")
    with caplog.at_level(logging.WARNING):
        taken = begun(finished(whole, partly, nothing), genome_of())
    assert taken == [whole, NetworkSpec((branch("p0", "shrink"), twice), confidence="margin")]
    assert "2 of 3 networks" in caplog.text
    assert "attach points are matched by name only" in caplog.text


def test_layers_that_do_not_fit_the_maps_here_are_no_other_branch(finished):
    places = [AttachPoint("p0", (8, 2, 2), 100)]
    small = build_genome(COMPACT, places, 3, NetworkGenes("disjoint", "margin"))
    path = finished(NetworkSpec((branch("p0", "max-pool"),), confidence="margin"))
    assert begun(path, genome_of()) != []
    assert begun(path, small) == []


def test_settings_of_whole_networks_are_kept_where_they_are_choices_here(finished):
    choices = {"regime.name": ("disjoint", "calex"), "confidence": ("margin", "entropy"), "regime.temperature": (2, 4)}
    network = NetworkGenes("disjoint", "margin", precisions=("fp32", "int8"), choices=choices)
    here = NetworkSpec((branch("p0"),), "calex", "entropy", "int8", options=(("regime.temperature", 4),))
    elsewhere = NetworkSpec((branch("p0"),), "joint", "patience", "fp16", options=(("regime.temperature", 3),))
    assert begun(finished(here), genome_of(network=network)) == [here]
    (taken,) = begun(finished(elsewhere, name="other"), genome_of(network=network))
    assert taken == NetworkSpec((branch("p0"),), "disjoint", "margin", options=(("regime.temperature", 2),))


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    with pytest.raises(ExperimentError, match=r"^search\.start_from: .*nowhere holds no run"):
        begun(tmp_path / "nowhere", genome_of())
    folder = RunFolder(tmp_path / "begun")
    folder.path.mkdir()
    write_text(folder.experiment_file, Experiment.embedded().to_yaml())
    with pytest.raises(ExperimentError, match=r"^search\.start_from: .*no front yet"):
        begun(folder.path, genome_of())
