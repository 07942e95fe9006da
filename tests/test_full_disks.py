"""Disks that are really full or read-only: nothing that was there is lost, and the message says what to do."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
import torch

from aebnas.claims import LOCKS
from aebnas.errors import RunError, RunFailed
from aebnas.progress import Progress
from aebnas.store import DamagedFile, RecordStore, WeightStore
from aebnas.training.kept import KeptArrays, Layout

FULL = r"cannot write .*: No space left on device; free some space or choose another folder"
READ_ONLY = r"cannot write .*: Read-only file system"
HEAVY = {"state": torch.zeros(1 << 20)}


@pytest.fixture
def disk(small_disk):
    return small_disk


def lock_away(disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != LOCKS)


def fill(disk):
    with pytest.raises(OSError, match="No space"), (disk / "filler").open("wb") as file:
        for size in (1 << 14, 1):
            while True:
                file.write(bytes(size))
                file.flush()


def test_weights_that_do_not_fit_leave_those_that_are_there(disk):
    store = WeightStore(disk / "branches")
    store.put("a", {"value": 1})
    with pytest.raises(RunFailed, match=FULL):
        store.put("a", HEAVY)
    with pytest.raises(RunFailed, match=FULL):
        store.put("b", HEAVY)
    assert names(disk / "branches") == ["a.pt"]
    assert WeightStore(disk / "branches").get("a") == {"value": 1}
    store.put("b", {"value": 2})
    assert store.keys() == ["a", "b"]


def test_evaluations_that_do_not_fit_leave_those_that_are_there(disk):
    store = RecordStore(disk / "evaluations")
    store.put("a", {"value": 1})
    fill(disk)
    for key in ("a", "b"):
        with pytest.raises(RunFailed, match=FULL):
            store.put(key, {"value": [0.5] * 10_000})
    assert names(disk / "evaluations") == ["a.json"]
    assert store.get("a") == {"value": 1}


@pytest.fixture
def arrays(disk):
    def make(rows=8, **options):
        kept = KeptArrays(disk / "features", "key", {"0": Layout(np.dtype(np.float32), (rows, 1 << 16))})

        def write(append):
            for row in range(rows):
                append("0", np.full((1, 1 << 16), row, np.float32))

        return kept.make(write, label="features", progress=Progress(), **options)["0"]

    return make


def test_features_that_do_not_fit_free_the_disk_again(disk, arrays):
    with pytest.raises(RunFailed, match=FULL):
        arrays()
    assert names(disk / "features") == []
    np.testing.assert_array_equal(arrays(rows=2)[1], np.ones(1 << 16))


def test_the_old_features_make_room_for_the_new_ones(disk, arrays):
    arrays(rows=3)
    (file,) = (disk / "features").glob("*.f32")
    file.write_bytes(file.read_bytes()[:-1])
    assert arrays(rows=3).shape == (3, 1 << 16)  # twice as much would not fit


def test_a_read_only_run_can_be_read(disk, arrays):
    weights, records = WeightStore(disk / "branches"), RecordStore(disk / "evaluations")
    weights.put("a", {"value": 1})
    records.put("a", {"value": 1})
    arrays(rows=2)
    lock_away(disk)
    assert weights.has("a")
    assert weights.get("a") == records.get("a") == {"value": 1}
    assert arrays(rows=2).shape == (2, 1 << 16)
    for write in (
        lambda: weights.put("b", {}),
        lambda: records.put("b", {}),
        lambda: weights.try_claim("b"),
        lambda: arrays(rows=3),
    ):
        with pytest.raises(RunError, match=READ_ONLY):
            write()


def test_what_is_damaged_on_a_read_only_disk_is_told(disk):
    weights, records = WeightStore(disk / "branches"), RecordStore(disk / "evaluations")
    weights.put("a", {"value": 1})
    records.put("a", {"value": 1})
    for store in (weights, records):
        store.path("a").write_bytes(store.path("a").read_bytes()[:20])
    lock_away(disk)
    assert records.get("a") is None
    with pytest.raises(DamagedFile, match=r"a\.pt is damaged \(.*\): delete it, a search of this run makes it"):
        weights.get("a")
    assert not weights.has("a")
