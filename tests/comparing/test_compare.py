"""Whole comparisons on the toy data."""

from __future__ import annotations

import json

import pytest
import torch
from made_up_results import VARIANTS

from aebnas.cli import main
from aebnas.cli_compare import _choices
from aebnas.comparing import arena
from aebnas.comparing.arena import choose_branches, fresh_backbone, load_splits
from aebnas.comparing.compare import compare
from aebnas.comparing.jobs import check_epochs, epochs_of, plan_jobs
from aebnas.comparing.summary import summarise
from aebnas.comparing.variants import parse_variants
from aebnas.comparing.workshop import Workshop
from aebnas.errors import ExperimentError, RunFailed
from aebnas.report.comparison_files import write_comparison
from aebnas.training.fitting import Fitting


def test_every_variant_has_a_result_of_every_seed(found):
    assert found.failures == {}
    assert {name: sorted(results) for name, results in found.results.items()} == {name: [0, 1] for name in VARIANTS}
    assert {exit_: sorted(results) for exit_, results in found.statics.items()} == {None: [0, 1], 0: [0, 1], 1: [0, 1]}


def test_all_variants_train_for_the_same_number_of_epochs(base, tmp_path, monkeypatch):
    trained: list[str] = []
    label = ""

    def count(fitting):
        trained.append(label)

    do = Workshop.do

    def watch(workshop, job, stage):
        nonlocal label
        label = job.label
        do(workshop, job, stage)

    monkeypatch.setattr(Fitting, "begin_epoch", count)
    monkeypatch.setattr(Fitting, "step", lambda *_: None)
    monkeypatch.setattr(Workshop, "do", watch)
    compared = compare(base.override({"compare.seeds": 1}), run_dir=tmp_path)
    assert compared.failures == {}
    epochs = {name: trained.count(f"{name}, seed 0") for name in (*VARIANTS, "backbone", "static backbone")}
    # Two branches that train on their own have 3 epochs each, beside the 3 of the backbone.
    assert epochs == {
        "disjoint": 2 * 3,
        "joint": 6,
        "mixed": 3,
        "joint:confidence=margin": 0,  # trained with joint
        "cgt-soft": 6,
        "calex": 2 * 3,
        "sequential:protection=ewc": 3,
        "backbone": 3,
        "static backbone": 6,
    }
    totals = {
        name: result.epochs + result.backbone_epochs
        for name, (result,) in ((name, results.values()) for name, results in compared.results.items())
    }
    assert set(totals.values()) == {6}


def test_what_learns_from_the_trained_backbone_pays_for_its_epochs(base):
    plain, taught = parse_variants(["joint", "joint:target=backbone"], base)
    assert epochs_of(plain.experiment.regime, base.compare) == 6
    assert epochs_of(taught.experiment.regime, base.compare) == 3


def test_more_parts_in_turn_than_epochs_are_refused_before_training(base, tmp_path):
    (variant,) = parse_variants(["sequential"], base.override({"compare.epochs": 4}))
    check_epochs(variant, 1)
    with pytest.raises(ExperimentError, match=r"raise compare\.epochs"):
        check_epochs(variant, 2)
    with pytest.raises(ExperimentError, match="no key 'tau'"):
        compare(base.override({"compare.variants": ["joint:tau=1"]}), run_dir=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_seeds_change_the_initialisation_and_not_the_splits(base):
    data = load_splits(base)
    assert len(data.train) == 96
    other = load_splits(base.override({"compare.seeds": 5}))
    assert torch.equal(data.train.raw(), other.train.raw())
    assert torch.equal(data.validation.labels, other.validation.labels)
    first, again, second = (fresh_backbone(base, data, seed).model.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_the_job_that_others_need_comes_first_and_variants_of_one_training_are_one_job(base):
    variants = parse_variants(base.compare.variants, base)
    jobs = plan_jobs(base, variants, 96, [0.3, 0.6])
    of_first_seed = [job for job in jobs if job.seed == 0]
    assert of_first_seed[0].kind == "backbone"
    groups = [[variant.name for variant in job.variants] for job in of_first_seed if job.variants]
    assert ["joint", "joint:confidence=margin"] in groups
    assert sum(map(len, groups)) == len(VARIANTS)
    needing = {job.variants[0].name for job in of_first_seed if job.needs_backbone}
    assert needing == {"disjoint", "mixed", "calex", "sequential:protection=ewc"}


def test_explicit_branches_are_taken_in_the_order_of_the_backbone(base):
    data = load_splits(base)
    backbone = fresh_backbone(base, data, 0)
    near, far = (point.name for point in backbone.attach_points)
    branches = ({"attach": far}, {"attach": near, "head": "pooled-linear"})
    chosen = choose_branches(base.override({"compare.branches": branches}), backbone)
    assert [branch.attach for branch in chosen] == [near, far]
    for wrong, message in (
        (({"attach": "nowhere"},), "nowhere"),
        (({"attach": near}, {"attach": near}), "its own"),
    ):
        with pytest.raises(ExperimentError, match=message):
            choose_branches(base.override({"compare.branches": wrong}), backbone)
    with pytest.raises(ExperimentError, match=r"raise attach\.points"):
        choose_branches(base.override({"compare.exits": 3}), backbone)
    with pytest.raises(ExperimentError, match=r"compare\.branch: .*'conv9'"):
        choose_branches(base.override({"compare.branch": ["conv9"]}), backbone)


def test_frozen_parts_tell_the_epochs_of_the_longest(base, tmp_path):
    small = base.override({"compare.variants": ["sequential:protection=frozen"], "compare.seeds": 1})
    (result,) = compare(small, run_dir=tmp_path).results["sequential:protection=frozen"].values()
    assert (result.backbone_epochs, result.epochs) == (3, 3)


def test_processes_give_the_same_results_and_tell_their_failures(base, tmp_path):
    small = base.override(
        {"compare.variants": ["mixed", "joint:training.lr=1e30"], "compare.seeds": 1, "compare.epochs": 2}
    )
    alone = compare(small, run_dir=tmp_path / "alone")
    apart = compare(small, run_dir=tmp_path / "apart", workers=2)
    assert list(apart.failures) == list(alone.failures) == ["joint:training.lr=1e30"]
    one, other = alone.results["mixed"][0], apart.results["mixed"][0]
    assert (one.points, one.accuracies_test) == (other.points, other.accuracies_test)


def test_the_files_and_the_table(found, base, tmp_path, capsys):
    csv_file, json_file, picture = write_comparison(summarise(found), found.folder)
    lines = csv_file.read_text().splitlines()
    assert lines[0].startswith("variant,figure,mean,spread,seeds,difference")
    assert any(line.startswith("calex,accuracy_100,") for line in lines)
    assert [variant["name"] for variant in json.loads(json_file.read_text())["variants"]] == list(VARIANTS)
    assert picture.stat().st_size > 10_000


def test_the_verb(base, tmp_path, capsys):
    file = tmp_path / "toy.yaml"
    file.write_text(base.to_yaml())
    arguments = ["compare", str(file), "--regimes", "disjoint", "--seeds", "1", "--epochs", "2"]
    arguments += ["--confidences", "max-probability,margin", "--run-dir", str(tmp_path / "run")]
    assert main([*arguments, "--json", str(tmp_path / "all.json")]) == 0
    names = [variant["name"] for variant in json.loads((tmp_path / "all.json").read_text())["variants"]]
    assert names == ["disjoint:confidence=max-probability", "disjoint:confidence=margin"]
    assert (tmp_path / "run" / "plots" / "comparison.png").exists()
    capsys.readouterr()
    assert main(["compare", str(file), "--regimes", "joint:tau=3", "--run-dir", str(tmp_path / "no")]) == 2
    assert "no key 'tau'" in capsys.readouterr().err
    assert main(["compare", str(file), "--set", "tau", "--run-dir", str(tmp_path / "no")]) == 2


def test_what_is_given_for_a_key_twice_is_joined():
    found = _choices("margin,entropy", None, ["tau=0.5", "confidence=entropy,patience", "tau=0.9"])
    assert found == {"confidence": ["margin", "entropy", "patience"], "tau": ["0.5", "0.9"]}


def test_batch_norm_statistics_follow_in_all_that_is_trained_from_scratch(base, tmp_path, monkeypatch):
    """Static networks, backbones and variants alike: else those that lag would look worse than they are."""
    seen: dict[str, set[float]] = {}
    label = ""
    do, build = Workshop.do, arena.build_backbone

    def watch(workshop, job, stage):
        nonlocal label
        label = job.label
        do(workshop, job, stage)

    def slow(*given, **options):
        model = build(*given, **options)
        for layer in model.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = 3e-4
                layer.register_forward_hook(lambda one, *_: note(one) if torch.is_grad_enabled() else None)
        return model

    def note(layer):
        seen.setdefault(label.removesuffix(", seed 0"), set()).add(layer.momentum)

    monkeypatch.setattr(Workshop, "do", watch)
    monkeypatch.setattr(arena, "build_backbone", slow)
    words = {"compare.variants": ["joint", "mixed", "disjoint"], "compare.seeds": 1, "compare.epochs": 2}
    assert compare(base.override(words), run_dir=tmp_path).failures == {}
    scratch = ["joint", "backbone", "static backbone", "static truncated at exit 1", "static truncated at exit 2"]
    assert seen == {name: {0.1} for name in scratch} | {"mixed": {3e-4}}
    assert json.loads((tmp_path / "about.json").read_text())["backbone"]["batch_norm"] == "following"


@pytest.mark.parametrize(("batch_size", "told"), [(32, "following"), (2, None)])
def test_where_epochs_are_long_statistics_follow_as_they_always_did(base, tmp_path, monkeypatch, batch_size, told):
    """So that a comparison of before goes on."""
    build = arena.build_backbone

    def slow(*given, **options):
        model = build(*given, **options)
        for layer in model.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = 0.097  # as good as the usual one in 48 steps, but not in 3
        return model

    monkeypatch.setattr(arena, "build_backbone", slow)
    monkeypatch.setattr(Workshop, "do", lambda *_: None)
    with pytest.raises(RunFailed, match="no variant could be trained"):
        compare(base.override({"regime.training.batch_size": batch_size}), run_dir=tmp_path)
    assert json.loads((tmp_path / "about.json").read_text())["backbone"].get("batch_norm") == told
