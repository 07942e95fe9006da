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

    def say(*rows, images=10_000, point=None, noise=None, macs=False):
        data = {"fingerprint": "f", "train": 1, "validation": images, "test": images}
        about = experiment
        if macs:
            about = Experiment.model_validate(
                {**experiment.model_dump(), "search": {"objectives": ("accuracy", "macs")}}
            )
        run = write_run(tmp_path / "run", [*rows, BACKBONE], [], about)
        write_json(run.folder.summary_file, {"data": data, "latency": {"noise_pct": noise}})
        return worth_of_exits(run, point)

    return say


BACKBONE = measured(static_row("backbone", 0.95, 8e6), 1.0, test=0.95)


def early(*shares, accuracy=0.95, latency_ms=0.5):
    return measured(early_row("early-0", accuracy, 4e6, exits=exits(*shares)), latency_ms, test=accuracy)


def cut(name, accuracy, latency_ms, attach=A):
    return measured(static_row(name, accuracy, 4e6, attach), latency_ms, test=accuracy)


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
    assert "4.10 against 4.00 M MACs" in (said(early(0.5, 0.3), rival, macs=True) or "")
    assert said(early(0.5, 0.3), {**rival, "macs_mean": 5e6}, macs=True) is None


def test_where_nearly_all_leave_at_one_exit_the_network_that_is_cut_off_there_is_named(said):
    sentence = said(early(0.004, 0.9925), cut("cut-a", 0.90, 0.3), cut("cut-b", 0.94, 0.45, B))
    assert sentence is not None and sentence.startswith(
        "99.2 % of the validation samples leave early-0 at body.3: it is"
    )
    assert "nearly the static network cut-b, the backbone cut off at body.3 (94.00 % against 95.00 %" in sentence
    assert said(early(0.004, 0.98), cut("cut-b", 0.94, 0.45, B)) is None
    assert "the backbone cut off there" in (said(early(0.004, 0.9925), cut("cut-a", 0.90, 0.3)) or "")
    assert "the final exit: it is nearly the static network backbone, as it was" in (said(early(0.002, 0.003)) or "")


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
