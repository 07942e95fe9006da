from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from aebnas.branches.build import fits
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.errors import SpaceError
from aebnas.spaces.definition import SpaceDefinition, load_space, space_names

GOOD = """\
slots: 1
layers:
  conv3: [{kind: conv, kernel: 3}, relu]
heads:
  pooled: pooled-linear
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "own.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_the_packaged_spaces_are_these():
    assert {"compact", "digits", "aebnas-layers", "aebnas-stages"} <= set(space_names())


@pytest.mark.parametrize("name", space_names())
def test_every_packaged_space_loads_and_all_its_choices_fit_somewhere(name):
    space = load_space(name)
    assert space.description
    layers, heads = space.layer_choices(), space.head_choices()
    assert len(layers) > 1
    somewhere = [(16, 32, 32), (17, 16)]
    for parts, head in itertools.product(layers.values(), heads.values()):
        (shape,) = (shape for shape in somewhere if fits(BranchSpec("point", (), head), shape, 10))
        for_tokens = {part.kind.startswith("token-") for part in parts} or {len(shape) == 2}
        assert fits(BranchSpec("point", parts, head), shape, 10) == (for_tokens == {len(shape) == 2})


@pytest.mark.parametrize("name", space_names())
def test_no_two_choices_are_the_same(name):
    space = load_space(name)
    for choices in (space.layer_choices(), space.head_choices()):
        assert len(set(choices.values())) == len(choices)


def test_a_space_of_ones_own_is_read_by_path(write):
    space = load_space(write(GOOD))
    assert (space.slots, space.max_exits) == (1, 4)
    assert space.layer_choices() == {"none": (), "conv3": (PartSpec.of("conv", kernel=3), PartSpec("relu"))}
    assert space.head_choices() == {"pooled": PartSpec("pooled-linear")}


def test_none_may_be_written_down_or_left_out(write):
    assert load_space(write(GOOD.replace("layers:", "layers:\n  none: []"))).layer_choices() == (
        load_space(write(GOOD)).layer_choices()
    )


def test_form_a_of_aebnas_is_up_to_four_single_layers():
    """arXiv 2512.10671, public code: (kernel 1, 3, 5) x (conv, max-pool, batch-norm, ReLU); absent is ``none``."""
    space = load_space("aebnas-layers")
    assert space.slots == 4
    choices = space.layer_choices()
    assert choices.pop("none") == ()
    assert all(len(parts) == 1 for parts in choices.values())
    kernels: dict[str, set] = {}
    for ((kind, options),) in (((part.kind, dict(part.options)) for part in parts) for parts in choices.values()):
        kernels.setdefault(kind, set()).add(options.get("kernel"))
        assert set(options) <= ({"kernel", "stride"} if kind == "max-pool" else {"kernel"})
    # Batch-norm and ReLU have no kernel, and pooling over one pixel is none.
    assert kernels == {"conv": {1, 3, 5}, "max-pool": {3, 5}, "batch-norm": {None}, "relu": {None}}
    assert space.head_choices() == {"pooled-linear": PartSpec("pooled-linear")}


def test_form_b_of_aebnas_is_up_to_two_stages():
    """arXiv 2512.10671, public code: resize, conv of stride 2, batch-norm, ReLU, optional 2x2 max-pool."""
    space = load_space("aebnas-stages")
    assert space.slots == 2
    expected = {
        (
            PartSpec.of("resize", size=size),
            PartSpec.of("conv", kernel=kernel, stride=2, channels=width),
            PartSpec("batch-norm"),
            PartSpec("relu"),
            *([PartSpec.of("max-pool", kernel=2, stride=2)] if pool else []),
        )
        for size, kernel, width, pool in itertools.product((8, 10), (3, 5), (1, 2), (False, True))
    }
    assert len(expected) == 16
    assert set(space.layer_choices().values()) == {(), *expected}
    assert PartSpec("pooled-linear") in space.head_choices().values()


@pytest.mark.parametrize(
    ("good", "bad", "sentence"),
    [
        ("slots:", "slot:", "there is no key 'slot': did you mean 'slots'"),
        ("layers:", "layer:", "there is no key 'layer': did you mean 'layers'"),
        ("heads:", "head:", "head"),
        ("slots: 1", "slots: 9", r"slots: .*less than or equal to 8 \(got 9\)"),
        ("slots: 1", "slots: -1", r"slots: .*greater than or equal to 0 \(got -1\)"),
        ("slots: 1", "slots: two", r"slots: .*integer.* \(got 'two'\)"),
        ("slots: 1", "max_exits: 0", r"max_exits: .*greater than or equal to 1 \(got 0\)"),
        ("kind: conv,", "kind: cnv,", r"layers\.conv3: there is no layer 'cnv': did you mean 'conv'"),
        ("{kind: conv", "{knd: conv", r"layers\.conv3 must be a name, or a mapping with 'kind' and options"),
        ("kernel:", "kernal:", r"layers\.conv3: layer 'conv': there is no option 'kernal': did you mean 'kernel'"),
        ("kernel: 3", "kernel: 7", r"layers\.conv3: layer 'conv': kernel must be one of \(1, 3, 5\) \(got 7\)"),
        ("kernel: 3", "kernel: [3]", r"layers\.conv3\.kernel must be a number, a text or true/false"),
        ("kernel: 3", "channels: .inf", r"layers\.conv3\.channels must be a finite number"),
        (", relu]", ", rely]", r"layers\.conv3: there is no layer 'rely': did you mean 'relu'"),
        ("[{kind: conv, kernel: 3}, relu]", "relu", r"layers\.conv3: must be a list"),
        (
            "pooled-linear",
            "pooled-liner",
            r"heads\.pooled: there is no head 'pooled-liner': did you mean 'pooled-linear'",
        ),
        ("pooled-linear", "{kind: grid-linear, size: 0}", r"heads\.pooled: head 'grid-linear' with size 0"),
        ("pooled-linear", "{kind: grid-linear, sice: 2}", r"heads\.pooled: .*no option 'sice': did you mean 'size'"),
        ("pooled-linear", "3", r"heads\.pooled must be a name, or a mapping"),
        ("\n  pooled: pooled-linear", " {}", "heads: .*at least 1 item"),
        ("conv3:", "none:", "layers: 'none' stands for no layers: leave it out or give it an empty list"),
    ],
)
def test_a_wrong_space_is_one_sentence_that_names_file_and_key(write, good, bad, sentence):
    assert good in GOOD
    path = write(GOOD.replace(good, bad))
    with pytest.raises(SpaceError, match=sentence) as caught:
        load_space(path)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a", "3"])
def test_a_file_that_holds_no_space_says_so(write, text):
    with pytest.raises(SpaceError, match=r"own\.yaml must hold keys and values"):
        load_space(write(text))


def test_a_file_that_is_no_yaml_says_where(write):
    with pytest.raises(SpaceError, match=r"own\.yaml is not valid YAML at line 2"):
        load_space(write("slots: 1\nlayers: ]\n"))


def test_an_unknown_space_suggests_the_nearest():
    with pytest.raises(SpaceError, match=r"no search space 'compac': did you mean 'compact'.*or give the path of"):
        load_space("compac")
    with pytest.raises(SpaceError, match=r"nowhere\.yaml does not exist"):
        load_space(str(Path("no", "nowhere.yaml")))


def test_a_space_is_frozen():
    space = SpaceDefinition(heads={"pooled": "pooled-linear"})
    with pytest.raises(ValueError, match="frozen"):
        space.slots = 3


def test_layers_of_maps_and_of_tokens_are_no_choice_together(write):
    mixed = GOOD.replace("[{kind: conv, kernel: 3}, relu]", "[{kind: conv, kernel: 3}, token-norm]")
    with pytest.raises(SpaceError, match=r"layers.conv3 has layers of maps and layers of tokens, which never meet"):
        load_space(write(mixed))
    assert load_space(write(GOOD.replace("[{kind: conv, kernel: 3}, relu]", "[token-norm, relu]")))
