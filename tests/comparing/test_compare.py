"""Whole comparisons on the toy data."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from aebnas.cli import main
from aebnas.cli_compare import _choices
from aebnas.comparing.arena import choose_branches, fresh_backbone, load_splits
from aebnas.comparing.compare import _about, compare
from aebnas.comparing.folder import ComparisonFolder
from aebnas.comparing.jobs import Job, check_epochs, epochs_of, plan_jobs
from aebnas.comparing.lessons import train_variant
from aebnas.comparing.pool import _Pool
from aebnas.comparing.summary import summarise
from aebnas.comparing.variants import parse_variants
from aebnas.comparing.workshop import Plan, Workshop
from aebnas.errors import ExperimentError, RunError, RunFailed, TrainingError
from aebnas.progress import Progress, Stage
from aebnas.report.comparison_files import write_comparison
from aebnas.training import fit

VARIANTS = ("disjoint", "joint", "mixed", "joint:confidence=margin", "cgt-soft", "calex", "sequential:protection=ewc")


@pytest.fixture(scope="module")
def base(toy_experiment):
    options = {"variants": VARIANTS, "exits": 2, "epochs": 6, "backbone_share": 0.5, "seeds": 2, "grid": 6}
    return toy_experiment(compare=options, regime__train_samples=96)


@pytest.fixture(scope="module")
def found(base, tmp_path_factory):
    """A comparison with all variants."""
    return compare(base, run_dir=tmp_path_factory.mktemp("compared"))


def test_every_variant_has_a_result_of_every_seed(found):
    assert found.failures == {}
    assert {name: sorted(results) for name, results in found.results.items()} == {name: [0, 1] for name in VARIANTS}
    assert {exit_: sorted(results) for exit_, results in found.statics.items()} == {None: [0, 1], 0: [0, 1], 1: [0, 1]}


def test_all_variants_train_for_the_same_number_of_epochs(base, tmp_path, monkeypatch):
    trained: list[str] = []
    label = ""

    def count(loop, train, number, seed):
        trained.append(label)

    do = Workshop.do

    def watch(workshop, job, stage):
        nonlocal label
        label = job.label
        do(workshop, job, stage)

    monkeypatch.setattr(fit._Loop, "epoch", count)
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


def test_the_same_command_goes_on_and_trains_only_what_is_missing(base, found, tmp_path, monkeypatch):
    folder = shutil.copytree(found.folder.path, tmp_path / "copy")
    joint = parse_variants(["joint"], base)[0]
    (folder / "results" / f"{joint.key}-seed1.json").unlink()
    (folder / "logits" / f"{joint.training_key}-seed1.pt").unlink()
    done: list[str] = []
    do = Workshop.do
    monkeypatch.setattr(Workshop, "do", lambda shop, job, stage: done.append(job.label) or do(shop, job, stage))
    again = compare(base, run_dir=folder)
    assert done == ["joint, seed 1"]
    assert again.results["mixed"] == found.results["mixed"]
    assert again.results["joint"][1].points == found.results["joint"][1].points
    more = compare(base.override({"compare.variants": ["joint", "mixed:weighting=linear"]}), run_dir=folder)
    assert done[1:] == ["mixed:weighting=linear, seed 0", "mixed:weighting=linear, seed 1"]
    assert more.results["joint"] == again.results["joint"]
    with pytest.raises(RunError, match=r"compare\.epochs is 6, not 8"):
        compare(base.override({"compare.epochs": 8}), run_dir=folder)


def test_a_variant_that_fails_is_told_and_the_others_go_on(base, tmp_path, monkeypatch, capsys):
    fails = {"joint"}

    def train(experiment, *rest):
        if experiment.regime.name in fails:
            raise TrainingError("the loss is nan: lower the learning rate")
        return train_variant(experiment, *rest)

    monkeypatch.setattr("aebnas.comparing.workshop.train_variant", train)
    small = base.override({"compare.variants": ["joint", "disjoint"], "compare.seeds": 1, "compare.epochs": 2})
    found = compare(small, run_dir=tmp_path / "run")
    assert found.failures == {"joint": "the loss is nan: lower the learning rate"}
    assert found.results["joint"] == {}
    assert len(found.results["disjoint"][0].points) > 1
    # The verb prints what there is, and says by its exit code that not all is there.
    (tmp_path / "toy.yaml").write_text(small.to_yaml())
    assert main(["compare", str(tmp_path / "toy.yaml"), "--run-dir", str(tmp_path / "run")]) == 1
    told = capsys.readouterr()
    assert "disjoint" in told.out
    assert "joint failed: the loss is nan" in " ".join(told.out.split())
    fails.add("disjoint")
    with pytest.raises(RunFailed, match="no variant could be trained: the loss is nan"):
        compare(small.override({"compare.variants": ["joint"]}), run_dir=tmp_path / "run")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_that_cannot_be_written_stops_everything(base, tmp_path, workers):
    small = base.override({"compare.variants": ["joint", "mixed"], "compare.seeds": 1, "compare.epochs": 2})
    # A file where the results' folder should be: every job would train, and fail to write.
    ComparisonFolder(tmp_path).start(_about_of(small))
    (tmp_path / "results").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*results"):
        compare(small, run_dir=tmp_path, workers=workers)


def test_a_damaged_backbone_is_trained_again_and_gives_the_same(base, found, tmp_path):
    folder = shutil.copytree(found.folder.path, tmp_path / "copy")
    variant = parse_variants(["mixed"], base)[0]
    (folder / "results" / f"{variant.key}-seed0.json").unlink()
    (folder / "logits" / f"{variant.training_key}-seed0.pt").write_bytes(b"damaged")
    (folder / "backbones" / "0.pt").write_bytes(b"damaged")
    said: list[str] = []
    again = compare(base, run_dir=folder, progress=_Told(said))
    assert again.failures == {}
    assert again.results["mixed"][0].points == found.results["mixed"][0].points
    assert any("0.pt is damaged: the backbone of seed 0 is trained again" in line for line in said)


def test_another_way_of_deciding_needs_no_training_and_touches_no_result(base, found, tmp_path, monkeypatch):
    folder = shutil.copytree(found.folder.path, tmp_path / "copy")
    shutil.rmtree(folder / "backbones")
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "results").iterdir()}

    def fail(*_):
        raise AssertionError("this was trained before")

    monkeypatch.setattr("aebnas.comparing.workshop.train_variant", fail)
    words = ["mixed", "mixed:confidence=entropy", "calex", "calex:thresholds=per-class"]
    more = compare(base.override({"compare.variants": words}), run_dir=folder)
    assert more.failures == {}
    assert more.results["mixed"] == found.results["mixed"]
    one, other = more.results["calex"][0], more.results["calex:thresholds=per-class"][0]
    assert (one.accuracies_test, one.epochs, one.backbone_epochs) == (
        other.accuracies_test,
        other.epochs,
        other.backbone_epochs,
    )
    assert one.points != other.points
    after = {path.name: path.stat().st_mtime_ns for path in (folder / "results").iterdir()}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 4


def test_without_kept_logits_a_group_trains_once_more_and_finished_results_stay(base, found, tmp_path):
    folder = shutil.copytree(found.folder.path, tmp_path / "copy")
    shutil.rmtree(folder / "logits")
    (finished,) = (folder / "results").glob(f"{parse_variants(['mixed'], base)[0].key}-seed0.json")
    # As if it had been trained on another machine: it is not to be replaced.
    marked = finished.read_text().replace('"seconds": ', '"seconds": 1000')
    finished.write_text(marked)
    more = compare(base.override({"compare.variants": ["mixed", "mixed:confidence=entropy"]}), run_dir=folder)
    assert finished.read_text() == marked
    assert sorted(more.results["mixed:confidence=entropy"]) == [0, 1]


def test_frozen_parts_tell_the_epochs_of_the_longest(base, tmp_path):
    small = base.override({"compare.variants": ["sequential:protection=frozen"], "compare.seeds": 1})
    (result,) = compare(small, run_dir=tmp_path).results["sequential:protection=frozen"].values()
    assert (result.backbone_epochs, result.epochs) == (3, 3)


def test_a_worker_that_dies_idle_loses_no_job(base, tmp_path):
    plan = Plan(base, (), {}, ComparisonFolder(tmp_path))
    pool = _Pool(plan, 2, Stage())
    dead = pool._start()
    dead.process.kill()
    dead.process.join()
    job = Job("static", 0, 1, 1)
    pool._waiting = [job]
    try:
        assert pool._give(job)
        assert pool._waiting == []
        assert [(worker.process is dead.process, worker.job) for worker in pool._workers] == [(False, job)]
    finally:
        pool._stop()


class _Told(Progress):
    def __init__(self, said):
        self._said = said

    def say(self, text):
        self._said.append(text)


def _about_of(experiment):
    data = load_splits(experiment)
    specs = choose_branches(experiment, fresh_backbone(experiment, data, experiment.seed))
    return _about(experiment, specs, f"{data.fingerprint} of {len(data.train)}")


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
