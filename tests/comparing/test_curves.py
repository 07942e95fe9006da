"""The curves that a comparison leaves in its folder."""

from __future__ import annotations

import csv
import sys

import pytest
from made_up_results import VARIANTS

from aebnas.comparing.compare import compare
from aebnas.comparing.curves import subject_of
from aebnas.comparing.jobs import Job
from aebnas.comparing.variants import parse_variants
from aebnas.errors import MissingExtraError


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_training_has_its_curve(base, found):
    folder = found.folder.path / "training"
    keys = {variant.name: variant.training_key for variant in parse_variants(VARIANTS, base)}
    plain = {
        "joint": "joint",
        "mixed": "mixed",
        "cgt-soft": "cgt-soft",
        "sequential:protection=ewc": "sequential-protection=ewc",
    }
    whole = {f"{file}-{keys[name]}-seed{seed}": name for name, file in plain.items() for seed in (0, 1)}
    alone = {
        f"{name}-{keys[name]}-seed{seed}-exit{exit_}": (name, exit_)
        for name in ("disjoint", "calex")
        for seed in (0, 1)
        for exit_ in (1, 2)
    }
    statics = {f"{name}-seed{seed}" for name in ("backbone", "static-backbone") for seed in (0, 1)}
    statics |= {f"static-exit{exit_}-seed{seed}" for exit_ in (1, 2) for seed in (0, 1)}
    # What is trained with joint has no curve of its own.
    assert {path.stem for path in folder.glob("*")} == {*whole, *alone, *statics}
    written = {path.stem: rows_of(path) for path in folder.glob("*")}
    assert {row["budget"] for rows in written.values() for row in rows} == {"compare"}
    points = [spec.attach for spec in found.specs]
    for name, variant in whole.items():
        assert {row["regime"] for row in written[name]} == {variant}
        assert [row["exit"] for row in written[name][:3]] == [*points, "final"]
        assert len(written[name]) == 3 * found.results[variant][0].epochs
    for name, (variant, exit_) in alone.items():
        assert {(row["regime"], row["exit"]) for row in written[name]} == {(variant, points[exit_ - 1])}
        assert [row["epoch"] for row in written[name]] == list("123")
        assert written[name][0]["layers"]
    assert [row["epoch"] for row in written["backbone-seed1"]] == list("123")
    assert [row["epoch"] for row in written["static-exit2-seed0"]] == list("123456")
    best = max(float(row["accuracy"]) for row in written["static-backbone-seed0"])
    assert best == pytest.approx(found.statics[None][0].accuracy_val, abs=1e-5)


def test_names_that_no_file_may_have_become_others_that_are_not_mixed_up(base):
    names = ["sequential:protection=ewc", "sequential:protection=lwf", "joint:confidence=margin"]
    jobs = [Job("variants", 3, 6, 0, (variant,)) for variant in parse_variants(names, base)]
    subjects = [subject_of(job, ()) for job in jobs]
    assert [subject.regime for subject in subjects] == names
    assert len({subject.name for subject in subjects}) == 3
    assert not any(set(subject.name) & set("/:*? ") for subject in subjects)


@pytest.mark.parametrize("kind", ["none", "tensorboard"])
def test_other_logs(base, tmp_path, kind):
    if kind == "tensorboard":
        pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    small = {"compare.variants": ["joint"], "compare.seeds": 1, "compare.epochs": 2, "training_log": kind}
    assert compare(base.override(small), run_dir=tmp_path).failures == {}
    assert not (tmp_path / "training").exists()
    boards = {path.parent.name.partition("-")[0] for path in tmp_path.glob("tensorboard/*/events.*")}
    assert boards == ({"joint", "static"} if kind == "tensorboard" else set())


def test_a_log_that_cannot_be_kept_is_told_before_anything_is_trained(base, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match="tensorboard"):
        compare(base.override({"training_log": "tensorboard"}), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
