"""Comparisons that stop, fail in part, and go on."""

from __future__ import annotations

import copy
import os
import shutil

import pytest

from aebnas.cli import main
from aebnas.comparing import arena
from aebnas.comparing.arena import choose_branches, fresh_backbone, load_splits
from aebnas.comparing.compare import _about, _as_now, compare
from aebnas.comparing.folder import ComparisonFolder
from aebnas.comparing.jobs import Job
from aebnas.comparing.lessons import train_variant
from aebnas.comparing.pool import _Pool
from aebnas.comparing.variants import parse_variants
from aebnas.comparing.workshop import Plan, Workshop
from aebnas.errors import RunError, RunFailed, TrainingError
from aebnas.files import write_json
from aebnas.prepare import data_of
from aebnas.progress import Progress, Stage


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


def test_a_comparison_of_before_there_were_some_keys_goes_on(base, tmp_path):
    folder, about = ComparisonFolder(tmp_path), _about_of(base)
    earlier = copy.deepcopy(about)
    del earlier["accuracy"], earlier["backbone"]["weights"]
    for key in ("normalise", "columns", "corrupt", "options", "resize"):
        del earlier["data"][key]
    del earlier["data"]["augment"]["crop"], earlier["regime"]["training"]["class_weights"]
    if earlier["backbone_training"] is not None:
        del earlier["backbone_training"]["class_weights"]
    write_json(tmp_path / "about.json", earlier | {"training_log": "csv", "plugins": []})
    folder.start(about, _as_now)
    write_json(tmp_path / "about.json", earlier)
    with pytest.raises(RunError, match=r"comparison whose accuracy is .*plain.*, not .*balanced"):
        folder.start(_about_of(base.override({"accuracy": "balanced"})), _as_now)
    (tmp_path / "about.json").write_text("[]")
    with pytest.raises(RunError, match=r"about\.json is damaged"):
        folder.start(about, _as_now)


def test_a_comparison_of_before_statistics_followed_is_not_gone_on_with(base, tmp_path):
    """Only where they would lag: results of one comparison are all of one kind."""
    folder = ComparisonFolder(tmp_path)
    folder.start(_about_of(base), _as_now)
    with pytest.raises(RunError, match=r"comparison whose backbone\.batch_norm is None, not following"):
        folder.start(_about_of(base, lags=True), _as_now)


def test_a_comparison_of_before_goes_on_with_its_own_data(base, toy_images, tmp_path, monkeypatch):
    """In every process: what is added is trained with what the rest was trained with."""
    monkeypatch.setattr("aebnas.data.parts.MOMENT_IMAGES", 50)  # so that moments of all images are other ones
    data = {"name": "folder", "path": str(toy_images), "grey": True}
    small = base.override({"data": data, "compare.variants": ["joint"], "compare.seeds": 1, "compare.epochs": 2})
    earlier = data_of(small).before()
    with monkeypatch.context() as patch:
        patch.setattr(arena, "data_of", lambda _: earlier)
        begun = compare(small, run_dir=tmp_path)
    more = compare(small.override({"compare.variants": ["joint", "joint:weighting=linear"]}), run_dir=tmp_path)
    assert (more.failures, more.results["joint"]) == ({}, begun.results["joint"])
    taken = Workshop(Plan(small, more.specs, more.prices, more.folder)).data
    assert taken.fingerprint == earlier.fingerprint != data_of(small).fingerprint
    assert taken.preprocessing == earlier.preprocessing != data_of(small).preprocessing
    assert len(taken.train) == 96
    with pytest.raises(RunError, match=r"comparison whose data\.fingerprint is"):
        compare(small.override({"data.path": toy_images / "train"}), run_dir=tmp_path)


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


def test_a_worker_that_was_sent_half_a_message_is_not_waited_for(base, tmp_path):
    """As Ctrl-C in the middle of sending a job leaves it."""
    pool = _Pool(Plan(base, (), {}, ComparisonFolder(tmp_path)), 1, Stage())
    worker = pool._start()
    # The first bytes of the length that comes before every message.
    os.write(worker.connection.fileno(), b"\x00\x00")
    pool._stop()
    assert not worker.process.is_alive()


class _Told(Progress):
    def __init__(self, said):
        self._said = said

    def say(self, text):
        self._said.append(text)


def _about_of(experiment, *, lags=False):
    data = load_splits(experiment)
    specs = choose_branches(experiment, fresh_backbone(experiment, data, experiment.seed))
    return _about(experiment, specs, f"{data.fingerprint} of {len(data.train)}", lags=lags)
