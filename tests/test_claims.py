"""Claims: one holder at a time, among processes, and none that outlives its holder."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from aebnas.claims import LOCKS, holding, try_hold
from aebnas.errors import RunError, RunFailed

SPAWN = multiprocessing.get_context("spawn")


def locks_of(folder):
    return sorted(path.name for path in (folder / LOCKS).iterdir())


def test_a_claim_has_one_holder_and_leaves_no_file(tmp_path):
    with try_hold(tmp_path, "a") as hold:
        assert try_hold(tmp_path, "a") is None
        assert locks_of(tmp_path) == ["a.lock", "turnstile"]
        with try_hold(tmp_path, "b"):
            pass
        hold.release()
        hold.release()
        assert locks_of(tmp_path) == ["turnstile"]
        with try_hold(tmp_path, "a"):
            hold.release()  # of what is somebody else's by now
            assert try_hold(tmp_path, "a") is None
    assert locks_of(tmp_path) == ["turnstile"]


def hold_and_stay(folder, ready):
    hold = try_hold(folder, "a")
    assert hold is not None
    ready.set()
    time.sleep(600)


def test_a_killed_holder_holds_nobody_up(tmp_path):
    ready = SPAWN.Event()
    process = SPAWN.Process(target=hold_and_stay, args=(tmp_path, ready))
    process.start()
    try:
        assert ready.wait(120)
        assert try_hold(tmp_path, "a") is None
        waited = []

        def kill_at_last():
            waited.append(True)
            if len(waited) == 3:
                os.kill(process.pid, signal.SIGKILL)

        with holding(tmp_path, "a", kill_at_last, poll_s=0.01):
            assert len(waited) >= 3
    finally:
        process.kill()
        process.join()
    assert locks_of(tmp_path) == ["turnstile"]


def count_up(folder, times):
    """Without a claim, most of this would be lost."""
    for _ in range(times):
        with holding(folder, "count", lambda: None, poll_s=0.001):
            count = int((folder / "count").read_text())
            time.sleep(0.0005)
            (folder / "count").write_text(str(count + 1))


def test_processes_take_turns(tmp_path):
    (tmp_path / "count").write_text("0")
    with ProcessPoolExecutor(3, SPAWN) as pool:
        list(pool.map(count_up, [tmp_path] * 3, [30] * 3))
    assert (tmp_path / "count").read_text() == "90"
    assert locks_of(tmp_path) == ["turnstile"]


def test_who_need_not_wait_is_told_nothing(tmp_path):
    def waiting():
        raise AssertionError("nobody has it")

    with holding(tmp_path, "a", waiting):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot write .*file"):
        try_hold(tmp_path / "file", "a")


def test_a_full_disk_is_a_failure(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("filelock.FileLock.acquire", full)
    with pytest.raises(RunFailed, match=r"No space left on device"):
        try_hold(tmp_path, "a")
