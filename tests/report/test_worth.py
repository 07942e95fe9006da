"""Whether the exits of a point are worth having, said in a sentence."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from synthetic_runs import early_row, measured, static_row, write_run

from aebnas.experiment import Experiment
from aebnas.files import write_json
from aebnas.report.table import print_front
from aebnas.report.worth import worth_of_exits

A, B = "body.0", "body.3"


def exits(*shares):
    return tuple((name, 0.5, share) for name, share in zip((A, B), shares, strict=True))


@pytest.fixture
def said(experiment, tmp_path):
    """Write a run of these rows, with so many images in both splits; return what is said of its pick or of a point."""

    def say(*rows, images=10_000, point=None, noise=None, costs=("latency_ms",), limits=None, classes=None):
        data = {"fingerprint": "f", "train": 1, "validation": images, "test": images}
        values = {**experiment.model_dump(), "search": {"objectives": ("accuracy", *costs), "limits": limits or {}}}
        if classes is not None:
            values["accuracy"] = "balanced"
        about = Experiment.model_validate(values)
        run = write_run(tmp_path / "run", [*rows, BACKBONE], [], about)
        kept = {"classes": dict.fromkeys(("validation", "test"), classes)} if classes else {}
        write_json(run.folder.summary_file, {"data": data, "latency": {"noise_pct": noise}, **kept})
        return worth_of_exits(run, point)

    return say


BACKBONE = measured(static_row("backbone", 0.95, 8e6), 1.0, test=0.95)


def early(*shares, accuracy=0.95, latency_ms=0.5, **changes):
    """Return a point with two branches whose weights are called a and b."""
    row = early_row("early-0", accuracy, 4e6, exits=exits(*shares), weights={"branches": ["a", "b"]}, **changes)
    return measured(row, latency_ms, test=accuracy)


def cut(name, accuracy, latency_ms, attach=A, **changes):
    """Return the network that ends in one of these branches."""
    weights = {"branches": ["a" if attach == A else "b"]}
    return measured(
        static_row(name, accuracy, 4e6, attach, **{"weights": weights, **changes}), latency_ms, test=accuracy
    )


def test_of_a_network_that_is_better_than_all_static_ones_nothing_is_said(said):
    assert said(early(0.5, 0.3), cut("cut-a", 0.90, 0.2), cut("cut-b", 0.94, 0.6)) is None


def test_a_static_network_that_is_as_accurate_and_as_cheap_within_noise_is_named(said):
    # A standard error of 95 % of 10,000 images is 0.22 points.
    sentence = said(early(0.5, 0.3), cut("cut-a", 0.949, 0.51), cut("cut-b", 0.948, 0.1))
    assert sentence is not None and sentence.startswith("The static network cut-a, the backbone cut off at body.0, is")
    assert "94.90 % against 95.00 % on test" in sentence and "1.63x against 1.67x as fast" in sentence
    assert sentence.endswith("export it with --pick cut-a.")
    assert said(early(0.5, 0.3), cut("cut-a", 0.947, 0.5)) is None
    assert said(early(0.5, 0.3), cut("cut-a", 0.949, 0.53)) is None


def test_noise_is_that_of_the_splits_and_of_the_machine(said):
    assert said(early(0.5, 0.3), cut("cut-a", 0.94, 0.5)) is None
    assert "cut-a" in (said(early(0.5, 0.3), cut("cut-a", 0.94, 0.5), images=200) or "")
    assert said(early(0.5, 0.3), cut("cut-a", 0.95, 0.53)) is None
    assert "cut-a" in (said(early(0.5, 0.3), cut("cut-a", 0.95, 0.53), noise=8.0) or "")


def test_less_accurate_on_one_split_is_less_accurate(said):
    rival = {**cut("cut-a", 0.95, 0.4), "accuracy_val": 0.90}
    assert said(early(0.5, 0.3), rival) is None
    assert said(early(0.5, 0.3), {**rival, "accuracy_val": 0.95, "accuracy_test": 0.90}) is None


def test_a_search_for_macs_is_judged_by_macs(said):
    rival = {**cut("cut-a", 0.95, 9.0), "macs_mean": 4.1e6}
    assert "4.10 against 4.00 M MACs" in (said(early(0.5, 0.3), rival, costs=["macs"]) or "")
    assert said(early(0.5, 0.3), {**rival, "macs_mean": 5e6}, costs=["macs"]) is None


@pytest.mark.parametrize("column", ["macs_mean", "model_mib", "energy_mj_mean"])
def test_noise_of_the_machine_is_none_of_what_is_counted(said, column):
    cost = {"macs_mean": "macs", "model_mib": "model_mib", "energy_mj_mean": "energy_mj"}[column]
    rival = {**cut("cut-a", 0.95, 0.4), column: 1.1}
    sentence = said({**early(0.5, 0.3), column: 1.0}, rival, costs=[cost], noise=15.0)
    assert (sentence is not None) == (cost == "energy_mj")


def test_every_cost_counts_that_was_searched_by(said):
    point, rival = {**early(0.5, 0.3), "model_mib": 1.0}, cut("cut-a", 0.95, 0.4)
    assert "cut-a" in (said(point, rival) or "")
    both = {"costs": ["latency_ms", "model_mib"]}
    assert "cut-a" in (said(point, {**rival, "model_mib": 0.9}, **both) or "")
    assert said(point, {**rival, "model_mib": 1.2}, **both) is None
    assert said(point, rival, **both) is None
    # What is known of the files themselves goes before what was predicted of them.
    sizes = [{"model_mib_measured": size} for size in (1.3, 1.0)]
    assert "cut-a" in (said(point | sizes[0], {**rival, "model_mib": 1.2} | sizes[1], **both) or "")


@pytest.mark.parametrize("column", ["latency_ms_p95", "latency_ms_p95_measured"])
def test_what_breaks_a_limit_is_not_recommended(said, column):
    tails = {"latency_ms_p95": 0.6, "latency_ms_p95_measured": 0.6}
    point, rival = early(0.5, 0.3) | tails, cut("cut-a", 0.95, 0.4) | tails
    assert "cut-a" in (said(point, rival, limits={"latency_p95_ms": 0.61}) or "")
    assert said(point, {**rival, column: 0.615}, limits={"latency_p95_ms": 0.61}) is None
    nearly = early(0.004, 0.9925) | tails
    sentence = said(nearly, {**rival, column: 0.615}, limits={"latency_p95_ms": 0.61}) or ""
    assert "99.2 %" in sentence and "--pick" not in sentence


def test_a_balanced_accuracy_has_an_error_where_the_sizes_of_classes_are_known(said):
    # Its error is larger than that of 95 % of 10,000 images, 0.22 points: a class of 100 counts half.
    rows = early(0.5, 0.3), cut("cut-a", 0.945, 0.4)
    assert "cut-a" in (said(*rows, classes=[9_900, 100]) or "")
    assert said(*rows, classes=[5_000, 5_000]) is None
    assert said(*rows, classes=[]) is None


def test_where_nearly_all_leave_at_one_exit_the_network_that_is_cut_off_there_is_named(said):
    sentence = said(early(0.004, 0.9925), cut("cut-a", 0.90, 0.3), cut("cut-b", 0.94, 0.45, B))
    assert sentence is not None and sentence.startswith(
        "99.2 % of the validation samples leave early-0 at body.3: it is"
    )
    assert "nearly the static network cut-b, the backbone cut off at body.3 (94.00 % against 95.00 %" in sentence
    assert said(early(0.004, 0.98), cut("cut-b", 0.94, 0.45, B)) is None
    assert "the backbone cut off there" in (said(early(0.004, 0.9925), cut("cut-a", 0.90, 0.3)) or "")
    assert "the final exit: it is nearly the static network backbone, as it was" in (said(early(0.002, 0.003)) or "")


def test_the_backbone_that_is_named_has_the_precision_of_the_point(said):
    converted = measured(static_row("backbone-int8", 0.94, 8e6, precision="int8"), 0.7, test=0.94)
    for precision, named in (
        ("fp32", "the static network backbone, as it was (95.00 %"),
        ("int8", "the static network backbone-int8, the backbone in int8 (94.00 %"),
        ("fp16", "a static network, its backbone without a branch."),
    ):
        assert f"it is nearly {named}" in (said(early(0.002, 0.003, precision=precision), converted) or "")


@pytest.mark.parametrize(
    "other",
    [
        {"weights": {"branches": ["c"]}},
        {"weights": {"network": "n"}},
        {"precision": "int8"},
    ],
)
def test_a_network_that_is_cut_off_there_with_other_weights_is_not_named(said, other):
    sentence = said(early(0.004, 0.9925), cut("cut-b", 0.94, 0.45, B, **other)) or ""
    assert sentence.endswith("it is nearly a static network, the backbone cut off there.")


def test_where_the_backbone_moved_only_what_moved_with_it_is_the_same(said):
    moved, other = ({"network": name} for name in ("n", "m"))
    ends = {number: cut(f"cut-n-{number}", 0.94, 0.45, B) | {"weights": moved, "cut": number} for number in (0, 1)}
    for row in ends.values():
        row["exits"] = early(0, 0)["exits"]
    point = early(0.004, 0.9925) | {"weights": moved}
    assert "nearly the static network cut-n-1, the backbone cut off at body.3" in (said(point, *ends.values()) or "")
    assert "the backbone cut off there" in (said(point, ends[0], ends[1] | {"weights": other}) or "")
    final = early(0.002, 0.003) | {"weights": moved}
    assert "it is nearly a static network, its backbone without a branch." in (said(final, *ends.values()) or "")


def test_both_at_once_are_one_sentence(said):
    sentence = said(early(0.004, 0.9925), cut("cut-b", 0.95, 0.45, B))
    assert sentence is not None and sentence.count(". ") == 0
    assert "so that it is nearly a static network, and cut-b, the backbone cut off at body.3, is as good" in sentence


def test_of_what_somebody_names_it_is_said_too_but_not_of_a_static_network(said):
    rows = (early(0.5, 0.3), {**early(0.001, 0.995), "id": "early-1", "finalist": False}, cut("cut-b", 0.94, 0.1, B))
    assert said(*rows) is None
    assert "99.5 %" in (said(*rows, point="early-1") or "")
    assert said(*rows, point="cut-b") is None


def test_a_pick_that_is_static_is_called_that(said):
    assert said(cut("cut-a", 0.95, 0.4)) == (
        "No network that leaves early is better here than the static ones: the pick, cut-a, is one."
    )


def test_it_stands_below_the_table(experiment, tmp_path):
    run = write_run(tmp_path / "run", [early(0.5, 0.3), cut("cut-a", 0.95, 0.4), BACKBONE], [], experiment)
    text = io.StringIO()
    print_front(run, Console(width=120, file=text))
    assert text.getvalue().splitlines()[-1].startswith("The static network cut-a")
