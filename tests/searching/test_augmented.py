"""A search over features of augmented images, from the experiment file to the front."""

from __future__ import annotations

import json

import pytest
import torch

from aebnas.errors import RunError
from aebnas.progress import Progress
from aebnas.searching.search import search

AUGMENTED = {"data__augment": {"flip": True, "shift": 1}, "cache_copies": 3}


@pytest.fixture(scope="module")
def augmented(toy_experiment, tmp_path_factory):
    return search(toy_experiment(**AUGMENTED), run_dir=tmp_path_factory.mktemp("augmented") / "run")


def sums_of(run):
    (path,) = run.folder.features.glob("*-train.json")
    return json.loads(path.read_text())


def test_branches_are_trained_on_copies_and_judged_on_plain_images(augmented, finished):
    samples = len(augmented.prepared().data.train)
    assert {about["shape"][0] for about in sums_of(augmented).values()} == {3 * samples}
    assert {about["shape"][0] for about in sums_of(finished).values()} == {samples}
    assert any(not row["static"] for row in augmented.rows)
    data, plain = augmented.prepared().data, finished.prepared().data
    assert torch.equal(data.validation.raw(), plain.validation.raw())
    assert data.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"cache_copies": 2}, "cache_copies"),
        ({"cache_copies": 1}, "cache_copies"),
        ({"data__augment": {"flip": True, "shift": 2}}, r"data\.augment\.shift"),
    ],
)
def test_another_augmentation_is_another_run(augmented, toy_experiment, change, key):
    with pytest.raises(RunError, match=rf"holds a run whose {key} differs"):
        search(toy_experiment(**{**AUGMENTED, **change}), run_dir=augmented.folder.path)


def test_the_same_command_computes_and_trains_nothing_again(augmented, toy_experiment, monkeypatch):
    before, front = sums_of(augmented), augmented.rows
    times = {path: path.stat().st_mtime_ns for path in augmented.folder.features.iterdir() if path.is_file()}
    assert search(toy_experiment(**AUGMENTED), run_dir=augmented.folder.path).rows == front
    assert sums_of(augmented) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_features_may_be_kept_in_full_precision_by_the_same_run(augmented, toy_experiment):
    """That is no other run: what was trained stays."""
    front = augmented.rows
    assert search(toy_experiment(**AUGMENTED, cache_dtype="fp32"), run_dir=augmented.folder.path).rows == front
    assert {about["dtype"] for about in sums_of(augmented).values()} == {"float32"}


def test_damaged_features_are_computed_again_by_the_next_search(copied, toy_experiment, caplog):
    (path,) = copied.folder.features.glob("*-train-1.f16")
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:7] + bytes([whole[7] ^ 64]) + whole[8:])
    before = copied.rows
    assert search(toy_experiment(), run_dir=copied.folder.path, progress=Progress()).rows == before
    assert path.read_bytes() == whole
    assert f"{path.name} is damaged: the features of the train split are computed again" in caplog.text
