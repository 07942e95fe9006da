from __future__ import annotations

import logging
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aebnas.backbones.cut import AttachPoint
from aebnas.branches.build import build_branch, fits
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.errors import SpaceError
from aebnas.spaces.definition import SpaceDefinition, load_space, space_names
from aebnas.spaces.genome import Genome, build_genome, starting_points
from aebnas.spaces.network_genes import NetworkGenes

CLASSES = 3
# From roomy to a single pixel, odd and oblong: what backbones leave of 28x28, 8x8 and 224x160 images.
BACKBONES = {
    "fashion": [(16, 28, 28), (32, 14, 14), (64, 7, 7)],
    "digits": [(8, 8, 8), (8, 4, 4), (16, 2, 2), (16, 1, 1)],
    "oblong": [(4, 28, 20), (6, 5, 3)],
}


def points(shapes) -> list[AttachPoint]:
    return [AttachPoint(f"point{i}", shape, 1000 * (i + 1)) for i, shape in enumerate(shapes)]


def genome_of(space: SpaceDefinition, shapes) -> Genome:
    return build_genome(space, points(shapes), CLASSES, NetworkGenes("joint", "margin"))


@cache
def packaged(space: str, backbone: str) -> Genome:
    return genome_of(load_space(space), BACKBONES[backbone])


genomes = st.builds(packaged, st.sampled_from(space_names()), st.sampled_from(list(BACKBONES)))


def random_genes(genome: Genome) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries({name: st.sampled_from(choices) for name, choices in genome.genes.items()})


def values(genome: Genome, **chosen: str) -> dict[str, str]:
    """Everything off and bare, but for ``chosen``."""
    start = {name: "none" if "none" in choices else choices[0] for name, choices in genome.genes.items()}
    assert set(chosen) <= set(start)
    return {**start, **chosen}


@settings(max_examples=40, deadline=None)
@given(st.data(), genomes)
def test_random_genes_always_decode_to_a_network_that_builds(data, genome):
    network = genome.decode(data.draw(random_genes(genome)))
    assert (network.regime, network.confidence) == ("joint", "margin")
    shapes = {point.name: point.shape for point in genome.points}
    order = [point.name for point in genome.points]
    attached = [branch.attach for branch in network.branches]
    assert attached == sorted(set(attached), key=order.index)
    assert len(attached) <= genome.max_exits
    for branch in network.branches:
        shape = shapes[branch.attach]
        with torch.device("meta"):
            assert build_branch(branch, shape, CLASSES)(torch.empty(2, *shape)).shape == (2, CLASSES)


@settings(max_examples=40, deadline=None)
@given(st.data(), genomes)
def test_unused_genes_are_dropped(data, genome):
    genes, others = data.draw(random_genes(genome)), data.draw(random_genes(genome))
    off = [f"exit{i}" for i in range(len(genome.points)) if genes[f"exit{i}"] == "off"]
    changed = {name: others[name] if name.split("_")[0] in off and "_" in name else genes[name] for name in genes}
    assert genome.decode(changed) == genome.decode(genes)
    assert genome.decode(changed).key == genome.decode(genes).key


@settings(max_examples=40, deadline=None)
@given(st.data(), genomes)
def test_different_networks_have_different_keys(data, genome):
    one, other = (genome.decode(data.draw(random_genes(genome))) for _ in range(2))
    assert (one == other) == (one.key == other.key)


def of_precisions(*precisions: str) -> Genome:
    shapes = BACKBONES["digits"]
    network = NetworkGenes("joint", "margin", precisions=precisions)
    return build_genome(load_space("digits"), points(shapes), CLASSES, network)


def test_several_precisions_are_a_gene():
    genome = of_precisions("fp32", "int8")
    assert genome.genes["precision"] == ("fp32", "int8")
    genes = values(genome, exit0="on")
    plain, small = (genome.decode({**genes, "precision": name}) for name in ("fp32", "int8"))
    assert (plain.precision, small.precision) == ("fp32", "int8")
    assert plain.branches == small.branches
    assert plain.key != small.key


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_single_precision_is_no_gene_and_holds_for_every_network(precision):
    genome = of_precisions(precision)
    assert "precision" not in genome.genes
    assert genome.decode(values(genome)).precision == precision
    assert packaged("digits", "digits").decode(values(genome)).precision == "fp32"


def test_a_search_starts_from_every_shape_in_every_precision():
    one, several = starting_points(of_precisions("fp32")), starting_points(of_precisions("fp32", "int8"))
    assert several == [{**start, "precision": name} for start in one for name in ("fp32", "int8")]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("space", space_names())
def test_every_exit_has_the_same_genes(space, backbone):
    genome = packaged(space, backbone)
    slots = [f"_layer{slot}" for slot in range(genome.slots)]
    assert list(genome.genes) == [f"exit{i}{gene}" for i in range(len(genome.points)) for gene in ("", *slots, "_head")]
    assert all(genome.genes[f"exit{i}"] == ("off", "on") for i in range(len(genome.points)))
    assert all("none" in choices for name, choices in genome.genes.items() if "_layer" in name)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("space", space_names())
def test_offered_is_exactly_what_can_fit(space, backbone):
    genome = packaged(space, backbone)
    for number, point in enumerate(genome.points):
        heads = genome.genes[f"exit{number}_head"]
        for name, head in genome.heads.items():
            assert (name in heads) == fits(BranchSpec(point.name, (), head), point.shape, CLASSES)
        for slot in range(genome.slots):
            offered = genome.genes[f"exit{number}_layer{slot}"]
            for name, layers in genome.layers.items():
                branches = [BranchSpec(point.name, layers, genome.heads[head]) for head in heads]
                assert (name in offered) == any(fits(branch, point.shape, CLASSES) for branch in branches)


def test_what_is_offered_does_not_depend_on_the_order_of_the_heads():
    heads = {"grid": {"kind": "grid-linear", "size": 4}, "pooled": "pooled-linear"}
    layers = {"shrink": ["shrink"]}
    offered = [
        genome_of(SpaceDefinition(slots=1, layers=layers, heads=dict(order)), [(4, 4, 4)]).genes["exit0_layer0"]
        for order in (heads.items(), reversed(heads.items()))
    ]
    assert offered == [("none", "shrink")] * 2


def test_small_maps_are_offered_less():
    genome = packaged("compact", "fashion")
    assert genome.genes["exit2_head"] == ("pooled-linear", "expand-mix-2")  # 7 pixels have no half
    assert set(genome.genes["exit0_layer0"]) == {name for name in genome.layers if not name.startswith("token-")}
    assert set(packaged("compact", "digits").genes["exit3_layer0"]) == {"none"}


def test_genes_decode_to_what_they_say():
    genome = packaged("digits", "digits")
    network = genome.decode(values(genome, exit0="on", exit0_layer1="conv3-s2", exit2="on", exit2_head="grid-linear-2"))
    conv = (PartSpec.of("conv", kernel=3, stride=2), PartSpec("batch-norm"), PartSpec("relu"))
    assert network.branches == (
        BranchSpec("point0", conv, PartSpec("pooled-linear")),
        BranchSpec("point2", (), PartSpec.of("grid-linear", size=2)),
    )


def test_nothing_on_is_the_bare_backbone():
    genome = packaged("compact", "fashion")
    assert genome.decode(values(genome)).branches == ()


def test_the_slot_that_a_layer_sits_in_says_nothing():
    genome = packaged("compact", "fashion")
    early = genome.decode(values(genome, exit0="on", exit0_layer0="conv3-s2"))
    late = genome.decode(values(genome, exit0="on", exit0_layer1="conv3-s2"))
    assert early == late
    assert early.key == late.key


def test_a_layer_that_no_longer_fits_counts_as_none():
    genome = packaged("digits", "digits")
    alone = values(genome, exit1="on", exit1_layer0="conv3-s2")
    # 4x4 -> 2x2, on which no 3x3 convolution fits; and a grid of 4 does not divide it.
    assert genome.decode({**alone, "exit1_layer1": "conv3-s2"}) == genome.decode(alone)
    kept_grid = genome.decode({**alone, "exit1_head": "grid-linear-4"}).branches[0]
    assert kept_grid == BranchSpec("point1", (), PartSpec.of("grid-linear", size=4))


@pytest.mark.parametrize("max_exits", [1, 2, 3])
def test_of_too_many_exits_the_deepest_are_dropped(max_exits):
    space = load_space("compact").model_copy(update={"max_exits": max_exits})
    genome = genome_of(space, [(16, 28, 28)] * 5)
    network = genome.decode(values(genome, exit1="on", exit2="on", exit4="on"))
    assert [branch.attach for branch in network.branches] == ["point1", "point2", "point4"][:max_exits]


def test_points_without_a_fitting_head_are_left_out(caplog):
    with caplog.at_level(logging.WARNING):
        genome = genome_of(load_space("digits"), [(8, 4), (8, 8, 8)])
    assert [point.name for point in genome.points] == ["point1"]
    assert "attach point point0 (8, 4)" in caplog.text
    network = genome.decode(values(genome, exit0="on"))
    assert [branch.attach for branch in network.branches] == ["point1"]


def test_nowhere_to_attach_is_an_error_with_the_fix():
    space = SpaceDefinition(heads={"grid": {"kind": "grid-linear", "size": 2}})
    with pytest.raises(SpaceError, match=r"fits any attach point: choose another space or attach\.modules"):
        genome_of(space, [(4, 7, 7)])


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("space", space_names())
def test_a_search_starts_from_bare_heads_and_then_the_spaces_own_branches(space, backbone):
    genome = packaged(space, backbone)
    starts = starting_points(genome)
    offered = {name for gene, choices in genome.genes.items() if "_layer" in gene for name in choices}
    # Those that are made of nothing that fits anywhere are the bare heads again.
    assert len(starts) == 1 + sum(not offered.isdisjoint(start) for start in genome.starts)
    for start in starts:
        assert list(start) == list(genome.genes)
        assert all(value in genome.genes[name] for name, value in start.items())
        assert len(genome.decode(start).branches) == min(len(genome.points), genome.max_exits)
    assert all(branch.layers == () for branch in genome.decode(starts[0]).branches)
    for start in starts[1:]:
        assert genome.decode(start).branches[0].layers != ()


def test_starts_spread_their_exits_from_the_first_point_to_the_last():
    space = SpaceDefinition(
        slots=2, max_exits=2, heads={"pooled": "pooled-linear"}, layers={"one": ["relu"]}, starts=[["one"]]
    )
    genome = genome_of(space, [(4, 8, 8)] * 5)
    _, start = starting_points(genome)
    assert [number for number in range(5) if start[f"exit{number}"] == "on"] == [0, 4]
    assert start["exit2_layer0"] == "one"
    assert start["exit2_layer1"] == "none"


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        ([["one", "one", "one"]], "starts.0 has 3 layers, but a branch has 2 slots"),
        ([["two"]], "starts.0: there is no choice 'two': known are none, one"),
        ([[], ["none", "ones"]], "starts.1: there is no choice 'ones': did you mean 'one'"),
    ],
)
def test_a_start_that_the_space_does_not_have_is_refused(starts, message):
    with pytest.raises(ValueError, match=message):
        SpaceDefinition(slots=2, heads={"pooled": "pooled-linear"}, layers={"one": ["relu"]}, starts=starts)


def test_a_space_without_layers_has_one_start():
    genome = genome_of(SpaceDefinition(slots=0, heads={"pooled": "pooled-linear"}), [(4, 8, 8)])
    assert list(genome.genes) == ["exit0", "exit0_head"]
    assert starting_points(genome) == [{"exit0": "on", "exit0_head": "pooled"}]


def test_the_default_space_has_branches_for_maps_and_for_tokens():
    genome = genome_of(load_space("compact"), [(16, 14, 14), (17, 24)])
    of_map, of_tokens = (set(genome.genes[f"exit{number}_layer0"]) for number in range(2))
    assert of_map & of_tokens == {"none"}
    assert "conv3" in of_map and "token-mlp" in of_tokens
    assert genome.genes["exit0_head"] == ("pooled-linear", "expand-mix-2")
    assert genome.genes["exit1_head"] == ("token-mean", "token-class")


def test_no_search_starts_twice_from_the_same():
    for shapes in ([(16, 14, 14), (32, 7, 7)], [(17, 24)] * 2):
        starts = starting_points(genome_of(load_space("compact"), shapes))
        assert len({tuple(sorted(start.items())) for start in starts}) == len(starts) > 1
