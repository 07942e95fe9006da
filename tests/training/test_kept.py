"""Arrays that processes share: one writes, the others wait, and whoever dies leaves nothing in the way."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from aebnas.claims import LOCKS
from aebnas.progress import Progress, Stage
from aebnas.training.kept import LOGITS, KeptArrays, Layout, feature_bytes

SPAWN = multiprocessing.get_context("spawn")
VALUES = {"0": np.arange(60, dtype=np.float16).reshape(10, 6), LOGITS: np.arange(20, dtype=np.float32).reshape(10, 2)}


class Told(Progress):
    """Hears what is said, and does something at the third look of whoever waits."""

    def __init__(self, third):
        self.said, self.looked, self.third = [], 0, third

    def say(self, text):
        self.said.append(text)

    @contextlib.contextmanager
    def stage(self, label, total, done=0):
        class Counting(Stage):
            def advance(_, steps=1):
                self.looked += 1
                if self.looked == 3:
                    self.third()

        assert label == "waiting"
        yield Counting()


def layouts(*parts):
    return {part: Layout(VALUES[part].dtype, VALUES[part].shape) for part in parts or VALUES}


def make(folder, write=None, *, parts=(), progress=None, verify=False):
    def rows(append):
        for part in parts or VALUES:
            for start in range(0, 10, 4):
                append(part, VALUES[part][start : start + 4])

    kept = KeptArrays(folder, "key-train", layouts(*parts), private=[LOGITS])
    return kept.make(write or rows, label="numbers", progress=progress or Progress(), verify=verify)


def never(append):
    raise AssertionError("written again")


def test_what_is_written_is_mapped_and_found_again(tmp_path):
    for write in (None, never):
        arrays = make(tmp_path, write)
        assert arrays.keys() == VALUES.keys()
        for part, values in VALUES.items():
            assert isinstance(arrays[part], np.memmap)
            assert arrays[part].dtype == values.dtype
            np.testing.assert_array_equal(arrays[part], values)
    with pytest.raises(ValueError, match="read-only"):
        arrays["0"][0] = 1
    arrays[LOGITS][0] = 9
    np.testing.assert_array_equal(make(tmp_path, never, verify=True)[LOGITS], VALUES[LOGITS])


def test_rows_of_another_memory_order_are_written_in_order(tmp_path):
    kept = KeptArrays(tmp_path, "a", {"0": Layout(np.dtype(np.float32), (2, 3))})
    turned = np.arange(6, dtype=np.float32).reshape(3, 2).T
    found = kept.make(lambda append: append("0", turned), label="x", progress=Progress())
    np.testing.assert_array_equal(found["0"], turned)


def test_fewer_parts_free_the_disk_and_more_are_written(tmp_path):
    make(tmp_path)
    make(tmp_path, never, parts=[LOGITS])
    assert sorted(json.loads((tmp_path / "key-train.json").read_text())) == [LOGITS]
    assert not list(tmp_path.glob("*.f16"))
    make(tmp_path, never, parts=[LOGITS], verify=True)
    np.testing.assert_array_equal(make(tmp_path)["0"], VALUES["0"])


def test_only_features_count_as_such(tmp_path):
    make(tmp_path)
    (tmp_path / "other-7.u8").write_bytes(b"123")
    (tmp_path / ".other-8.u8.x.tmp").write_bytes(b"123")
    assert feature_bytes(tmp_path, but="nothing") == VALUES["0"].nbytes + 3
    assert feature_bytes(tmp_path, but="key-train") == 3
    assert feature_bytes(tmp_path / "missing", but="x") == 0


def test_a_file_that_vanishes_between_looking_and_opening_is_written_again(tmp_path, monkeypatch):
    """As where another process finds it damaged just then."""
    make(tmp_path)
    real, calls = np.memmap, []

    def vanishing(path, *args, **options):
        calls.append(path)
        if len(calls) == 1:
            Path(path).unlink()
        return real(path, *args, **options)

    monkeypatch.setattr(np, "memmap", vanishing)
    np.testing.assert_array_equal(make(tmp_path)["0"], VALUES["0"])


def slow(folder, started):
    """Write half, and stay there."""

    def write(append):
        append("0", VALUES["0"][:5])
        started.set()
        time.sleep(600)

    make(folder, write)


def test_who_waits_is_told_and_goes_on_when_the_writer_is_killed(tmp_path):
    started = SPAWN.Event()
    process = SPAWN.Process(target=slow, args=(tmp_path, started))
    process.start()
    try:
        assert started.wait(120)

        progress = Told(lambda: os.kill(process.pid, signal.SIGKILL))
        arrays = make(tmp_path, progress=progress)
    finally:
        process.kill()
        process.join()
    assert progress.said == ["another process computes the numbers: waiting for it"]
    assert progress.looked >= 3
    np.testing.assert_array_equal(arrays["0"], VALUES["0"])
    # What the killed one had written, gigabytes perhaps, is gone as well.
    left = sorted(path.name for path in tmp_path.iterdir() if path.name != LOCKS)
    assert left == ["key-train-0.f16", "key-train-logits.f32", "key-train.json"]


def write_and_count(folder, number):
    def rows(append):
        (folder / f"written-by-{number}").touch()
        time.sleep(0.05)
        for part, values in VALUES.items():
            append(part, values)

    return float(make(folder / "features", rows)["0"].sum())


def test_one_of_many_processes_writes(tmp_path):
    with ProcessPoolExecutor(4, SPAWN) as pool:
        sums = list(pool.map(write_and_count, [tmp_path] * 4, range(4)))
    assert sums == [float(VALUES["0"].sum())] * 4
    assert len(list(tmp_path.glob("written-by-*"))) == 1
