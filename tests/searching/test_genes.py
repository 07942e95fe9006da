"""A search that chooses how networks are trained and how they decide."""

from __future__ import annotations

import numpy as np
import pytest

from aebnas.branches.spec import NetworkSpec
from aebnas.errors import ExperimentError
from aebnas.export.session import EarlyExitSession
from aebnas.report.table import front_table
from aebnas.run import Run
from aebnas.searching.genes import effective
from aebnas.searching.search import search

GENES = {
    "regime.name": ["disjoint", "mixed", "calex"],
    "regime.weighting": ["equal", "linear"],
    "confidence": ["margin", "patience", "ensemble"],
    "cascade": ["none", "both"],
    "thresholds": ["per-exit", "per-class"],
}


@pytest.fixture(scope="module")
def chosen(toy_experiment, tmp_path_factory) -> Run:
    experiment = toy_experiment(search__genes=GENES, search__starts=True, search__trials=12, search__finalists=3)
    return search(experiment, run_dir=tmp_path_factory.mktemp("genes") / "run")


def specs(run: Run) -> list[NetworkSpec]:
    records = [run.folder.read_evaluation(path.stem) for path in run.folder.evaluations.glob("*.json")]
    return [NetworkSpec.from_json(record["spec"]) for record in records if record["failure"] is None]


def test_every_value_of_every_gene_is_tried(chosen):
    found = specs(chosen)
    assert {spec.regime for spec in found} == set(GENES["regime.name"])
    assert {spec.confidence for spec in found} == {"max-probability", "margin", "patience", "ensemble"} - {
        "max-probability"
    }
    assert {spec.cascade for spec in found} == {"none", "both"}
    assert {dict(spec.options).get("thresholds") for spec in found} == {"per-exit", "per-class"}


def test_a_weighting_is_kept_only_where_it_has_an_effect(chosen):
    for spec in specs(chosen):
        assert ("regime.weighting" in dict(spec.options)) == (spec.regime == "mixed")


def test_what_has_no_effect_beside_the_other_choices_is_dropped(toy_experiment):
    experiment = toy_experiment(regime__name="joint", regime__start="initial")
    options = {
        "regime.target": "final",
        "regime.temperature": 2.0,
        "regime.start": "initial",
        "thresholds": "per-class",
    }
    assert effective(experiment, "joint", options) == options
    # A frozen backbone starts trained and teaches nothing that it has learnt meanwhile: with labels, no temperature.
    assert effective(experiment, "disjoint", options) == {"thresholds": "per-class"}
    assert effective(experiment, "disjoint", {"regime.training.lr": 0.5}) == {"regime.training.lr": 0.5}
    assert effective(experiment, "disjoint", {"regime.training.momentum": 0.5}) == {}
    taught = {"regime.target": "backbone", "regime.temperature": 2.0}
    assert effective(experiment, "disjoint", taught) == taught


def test_values_that_do_not_go_together_end_no_search(toy_experiment, tmp_path):
    genes = {
        "regime.name": ["joint", "disjoint"],
        "regime.target": ["final", "backbone"],
        "regime.start": ["initial", "trained"],
    }
    experiment = toy_experiment(search__genes=genes, regime__name="joint", regime__start="initial", search__trials=8)
    run = search(experiment, run_dir=tmp_path / "run")
    found = specs(run)
    assert {(spec.regime, dict(spec.options).get("regime.start")) for spec in found} >= {("disjoint", None)}
    assert run.summary()["failed"] == 0


def test_rows_say_what_was_chosen_and_exports_do_it(chosen, prepared):
    images = prepared.data.test.raw().numpy()
    truth = prepared.data.test.labels.numpy()
    finalists = [row for row in chosen.rows if row["finalist"]]
    assert finalists
    for row in finalists:
        assert row["confidence"] in GENES["confidence"]
        assert row["regime"] in GENES["regime.name"]
        session = EarlyExitSession(chosen.folder.exports / row["id"])
        staged, single = (session.run(images, mode) for mode in ("staged", "single"))
        assert np.array_equal(staged.labels, single.labels)
        assert np.array_equal(staged.exits, single.exits)
        assert (staged.labels == truth).mean() == pytest.approx(row["accuracy_test"])


@pytest.mark.parametrize(
    "options",
    [
        {"thresholds": "per-class"},
        {"regime__name": "joint", "cascade": "both"},
        {"confidence": "ensemble", "cascade": "inputs"},
        {"confidence": "one-vs-all", "regime__loss": "one-vs-all", "thresholds": "per-class"},
    ],
)
def test_a_whole_search_under_one_setting_ends_in_exports_that_agree(toy_experiment, prepared, tmp_path, options):
    # Validation is small: an accuracy below the backbone's will do, so that there is something to export.
    run = search(toy_experiment(search__accuracy_drop=0.2, search__trials=6, **options), run_dir=tmp_path / "run")
    images, truth = prepared.data.test.raw().numpy(), prepared.data.test.labels.numpy()
    rows = [row for row in run.rows if row["accuracy_test"] is not None]
    assert any(row["id"].startswith("cut-") for row in rows)
    for row in rows:
        session = EarlyExitSession(run.folder.exports / row["id"])
        said = session.run(images, "single")
        assert (said.labels == truth).mean() == pytest.approx(row["accuracy_test"])
    early = [row for row in run.rows if not row["static"]]
    for row in early:
        assert set(row["options"]) == set()
        assert row["cascade"] in ("none", options.get("cascade", "none"))
        session = EarlyExitSession(run.export(row, tmp_path / row["id"]))
        assert np.array_equal(session.run(images, "single").labels, session.run(images, "staged").labels)


def test_a_gene_that_no_network_could_have_is_refused(toy_experiment):
    for genes, key in (
        ({"regime.name": ["disjont"]}, "disjoint"),
        ({"confidence": ["margin", "margin"]}, "each once"),
        ({"confidence": []}, "each once"),
        ({"search.trials": [3, 4]}, "search.trials"),
        ({"regime.final_epochs": [1, 2]}, "regime.final_epochs"),
        ({"regime.training.lr": [-1.0]}, "regime.training.lr"),
        ({"regime.target": ["final"]}, "nothing that disjoint can have"),
    ):
        with pytest.raises(ExperimentError, match=key):
            toy_experiment(search__genes=genes)


def test_patience_leaves_early(toy_experiment, prepared, tmp_path):
    run = search(
        toy_experiment(confidence="patience", search__accuracy_drop=0.3, search__trials=6), run_dir=tmp_path / "run"
    )
    evaluations = [run.folder.read_evaluation(path.stem) for path in run.folder.evaluations.glob("*.json")]
    shares = [point["exit_shares"] for evaluation in evaluations for point in evaluation["curve"]]
    # Nobody leaves at the first exit, which has no other to agree with; some leave at the second, and some go on.
    assert any(len(share) == 3 and share[0] == 0 and 0 < share[1] < 1 for share in shares)


def test_the_table_says_what_networks_chose_where_they_may_choose(chosen, finished):
    assert "training, confidence" in [str(column.header) for column in front_table(chosen).columns]
    assert "training, confidence" not in [str(column.header) for column in front_table(finished).columns]
