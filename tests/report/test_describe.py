import pytest
from synthetic_runs import early_row, static_row

from aebnas.branches.spec import PartSpec
from aebnas.report.describe import (
    exits_text,
    number,
    part_text,
    percent_share,
    settings_text,
    shares_text,
    shorten,
    shown_exits,
    threshold_text,
)


@pytest.mark.parametrize(
    "part, text",
    [
        (PartSpec.of("conv", kernel=3, stride=2, channels=0.5), "conv3-s2-x0.5"),
        (PartSpec.of("grid-linear", size=2), "grid-linear-2"),
        (PartSpec("pooled-linear"), "pooled-linear"),
        (PartSpec.of("mine", depth=4), "mine-depth4"),
    ],
)
def test_a_part_in_a_word(part, text):
    assert part_text(part) == text


def test_exits_in_a_line_each_without_norm_and_activation():
    row = early_row("a-0", 0.9, 1e6, exits=(("one", 0.5, 0.6), ("two", None, 0.0), ("three", 0.7, 0.1)))
    assert exits_text(row) == "one: conv3-s2 + pooled-linear\nthree: conv3-s2 + pooled-linear"
    assert shares_text(row) == "60/10/30"


def test_static_networks_have_one_exit():
    assert exits_text(static_row("backbone", 0.9, 1e6)) == "no exits"
    cut = static_row("cut-a", 0.9, 1e6, "one")
    assert exits_text(cut) == "cut at one: conv3-s2 + pooled-linear"
    assert [exit_.name for exit_ in shown_exits(cut)] == ["one"]


def test_a_truncated_network_of_several_branches_ends_in_the_one_it_was_cut_at():
    row = early_row("cut-a-0", 0.9, 1e6) | {"static": True, "cut": 1}
    assert [exit_.name for exit_ in shown_exits(row)] == ["body.3"]


@pytest.mark.parametrize("share, text", [(0.0, "0"), (0.001, "<1"), (0.5, "50"), (0.999, ">99"), (1.0, "100")])
def test_shares_are_never_rounded_to_none_or_all(share, text):
    assert percent_share(share) == text


@pytest.mark.parametrize(
    "value, text", [(0.02651, "0.0265"), (1.2, "1.20"), (99.96, "100"), (1234.5, "1,234"), (None, "–")]
)
def test_numbers_have_three_digits_that_count(value, text):
    assert number(value) == text


def test_long_names_keep_their_numbers():
    name = "features.denseblock1.denselayer12.conv2"
    assert shorten(name, 40) == name
    assert shorten(name, 30) == "feat.dens1.dens12.conv2"
    assert shorten(name, 12) == "feat.dens1.…"


@pytest.mark.parametrize(
    ("threshold", "text"),
    [
        (0.0, "always"),
        (0.51234, "≥ 0.512"),
        (2.0, "never"),
        ((None, None), "never"),
        ((0.25, 0.5, 0.75), "≥ 0.250 to 0.750 by class"),
        ((0.25, None, 0.75), "≥ 0.250 to 0.750 by class, 1 of 3 never"),
    ],
)
def test_thresholds_are_a_number_a_range_or_a_word(threshold, text):
    assert threshold_text(threshold) == text


def test_how_a_network_was_trained_and_decides_is_said_in_a_line():
    row = {"static": False, "regime": "cgt-soft", "confidence": "patience", "cascade": "none", "options": {}}
    assert settings_text(row) == "cgt-soft, patience"
    options = {"regime.cgt.tau": 0.5, "thresholds": "per-class"}
    assert settings_text({**row, "options": options, "cascade": "both"}) == (
        "cgt-soft tau=0.5 thresholds=per-class cascade=both, patience"
    )
    assert settings_text({**row, "static": True}) == "–"
