from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aebnas.branches.spec import BranchSpec, NetworkSpec, PartSpec
from aebnas.errors import BranchError

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
NUMBERS = st.integers(2, 9) | st.floats(-9, 9).filter(lambda x: x not in (0, 1))
OPTIONS = st.dictionaries(NAMES.filter(lambda name: name != "kind"), NUMBERS | st.booleans() | NAMES, max_size=3)
PARTS = st.builds(lambda kind, options: PartSpec(kind, tuple(options.items())), NAMES, OPTIONS)
BRANCHES = st.builds(BranchSpec, NAMES, st.lists(PARTS, max_size=3).map(tuple), PARTS)
NETWORKS = st.builds(NetworkSpec, st.lists(BRANCHES, max_size=3).map(tuple), NAMES, NAMES, NAMES)

CONV = PartSpec.of("conv", kernel=3, stride=2)
HEAD = PartSpec.of("grid-linear", size=2)
BRANCH = BranchSpec("stages.0", (CONV, PartSpec("relu")), HEAD)
NETWORK = NetworkSpec((BRANCH, BranchSpec("stages.1")), "joint", "margin")


@settings(max_examples=50, deadline=None)
@given(NETWORKS)
def test_a_network_comes_back_from_json(network):
    back = NetworkSpec.from_json(json.loads(json.dumps(network.to_json())))
    assert back == network
    assert hash(back) == hash(network)
    assert back.key == network.key


@settings(max_examples=50, deadline=None)
@given(NETWORKS, NETWORKS)
def test_keys_are_equal_exactly_where_networks_are(one, other):
    assert (one.key == other.key) == (one == other)


@settings(max_examples=50, deadline=None)
@given(BRANCHES, BRANCHES)
def test_keys_are_equal_exactly_where_branches_are(one, other):
    assert (one.key == other.key) == (one == other)


@pytest.mark.parametrize(
    "changed",
    [
        dataclasses.replace(BRANCH, attach="stages.1"),
        dataclasses.replace(BRANCH, layers=()),
        dataclasses.replace(BRANCH, layers=BRANCH.layers[::-1]),
        dataclasses.replace(BRANCH, layers=(*BRANCH.layers, PartSpec("relu"))),
        dataclasses.replace(BRANCH, layers=(PartSpec.of("conv", kernel=3, stride=1), PartSpec("relu"))),
        dataclasses.replace(BRANCH, layers=(PartSpec.of("conv", kernel=3), PartSpec("relu"))),
        dataclasses.replace(BRANCH, head=PartSpec("grid-linear")),
    ],
)
def test_each_part_of_a_branch_is_in_its_key(changed):
    assert changed.key != BRANCH.key
    assert dataclasses.replace(NETWORK, branches=(changed,)).key != dataclasses.replace(NETWORK, branches=(BRANCH,)).key


@pytest.mark.parametrize(
    "changed", [{"regime": "disjoint"}, {"confidence": "entropy"}, {"precision": "int8"}, {"branches": (BRANCH,)}]
)
def test_each_part_of_a_network_is_in_its_key(changed):
    assert dataclasses.replace(NETWORK, **changed).key != NETWORK.key


def test_keys_do_not_depend_on_the_process():
    code = (
        "import sys, json; from aebnas.branches.spec import NetworkSpec;"
        "print(NetworkSpec.from_json(json.loads(sys.argv[1])).key)"
    )
    keys = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code, json.dumps(NETWORK.to_json())]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        keys.add(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip())
    assert keys == {NETWORK.key}


def test_keys_of_stored_runs_stay_valid():
    # Evaluations and weights are found again under these; a change would orphan every run folder there is.
    assert BranchSpec("stem").key == "ed99535b606be68e"
    assert NETWORK.key == "854216f50138fdd2"


def test_a_network_from_before_precisions_is_one_in_fp32():
    before = {name: value for name, value in NETWORK.to_json().items() if name != "precision"}
    assert NetworkSpec.from_json(before) == NETWORK
    assert NETWORK.precision == "fp32"


def test_a_cascade_and_own_settings_make_another_network_and_come_back_from_json():
    other = dataclasses.replace(NETWORK, cascade="both", options=(("regime.training.lr", 0.5), ("a", 2.0)))
    assert other.key != NETWORK.key
    assert NetworkSpec.from_json(other.to_json()) == other
    assert other.options == (("a", 2), ("regime.training.lr", 0.5))
    assert dataclasses.replace(NETWORK, options=other.options[::-1]) == dataclasses.replace(
        NETWORK, options=other.options
    )


@pytest.mark.parametrize("spec", [CONV, BRANCH, NETWORK])
def test_specs_are_frozen(spec):
    name = dataclasses.fields(spec)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(spec, name, "other")


def test_the_order_of_options_says_nothing():
    one, other = PartSpec.of("conv", kernel=3, stride=2), PartSpec.of("conv", stride=2, kernel=3)
    assert one == other == PartSpec("conv", (("stride", 2), ("kernel", 3)))
    assert hash(one) == hash(other)
    assert one.to_json() == other.to_json() == {"kind": "conv", "kernel": 3, "stride": 2}


def test_whole_numbers_are_the_same_in_either_spelling():
    one, other = (BranchSpec("a", (PartSpec.of("conv", channels=value),)) for value in (2, 2.0))
    assert one == other
    assert one.key == other.key
    assert PartSpec.of("conv", channels=0.5).to_json() == {"kind": "conv", "channels": 0.5}


def test_parts_without_options_are_plain_names():
    assert PartSpec.parse("relu", "x").to_json() == "relu"
    assert PartSpec.parse({"kind": "relu"}, "x") == PartSpec("relu")
    assert str(PartSpec("relu")) == "relu"
    assert str(CONV) == "conv(kernel=3 stride=2)"


def test_what_a_branch_leaves_out_has_defaults():
    assert BranchSpec.from_json({"attach": "stem"}) == BranchSpec("stem", (), PartSpec("pooled-linear"))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (3, r"heads\.a must be a name, or a mapping with 'kind' and options \(got 3\)"),
        ({"kernel": 3}, r"heads\.a must be a name, or a mapping with 'kind'"),
        ({"kind": 3}, r"heads\.a must be a name, or a mapping with 'kind'"),
        ({"kind": "conv", "kernel": [3]}, r"heads\.a\.kernel must be a number, a text or true/false \(got \[3\]\)"),
        ({"kind": "conv", "kernel": None}, r"heads\.a\.kernel must be a number"),
        ({"kind": "conv", "channels": float("inf")}, r"heads\.a\.channels must be a finite number \(got inf\)"),
        ({"kind": "conv", "channels": float("nan")}, r"heads\.a\.channels must be a finite number \(got nan\)"),
    ],
)
def test_a_malformed_part_says_where_it_stood(value, sentence):
    with pytest.raises(BranchError, match=sentence):
        PartSpec.parse(value, "heads.a")


@pytest.mark.parametrize("value", ["stem", {"layers": []}])
def test_a_malformed_branch_says_what_belongs_into_one(value):
    with pytest.raises(BranchError, match="must be a mapping with 'attach', 'layers' and 'head'"):
        BranchSpec.from_json(value)


def test_a_malformed_layer_of_a_branch_is_numbered():
    with pytest.raises(BranchError, match=r"layers\.1 must be a name"):
        BranchSpec.from_json({"attach": "stem", "layers": ["relu", 7]})
