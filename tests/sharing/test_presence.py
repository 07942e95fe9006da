"""Who is alive: told by locks within a folder at once, by beats elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import filelock
import pytest
from optuna.storages import InMemoryStorage

from aebnas.errors import RunError
from aebnas.sharing.board import Board
from aebnas.sharing.presence import Presence
from aebnas.sharing.storage import open_storage

WORKER = """
import sys, time
from pathlib import Path
from aebnas.sharing.board import Board
from aebnas.sharing.presence import Presence
from aebnas.sharing.storage import open_storage

board = Board(open_storage(sys.argv[1], say=print), "search")
with Presence(board, Path(sys.argv[2]), interval_s=0.2) as presence:
    print(presence.worker, flush=True)
    sys.stdin.read()
"""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def board():
    return Board(InMemoryStorage(), "search")


def presence(board, folder, clock=time.monotonic, **options):
    """One whose thread does not beat by itself while a test lasts."""
    return Presence(board, folder, interval_s=1000, clock=clock, **options)


def test_a_worker_is_alive_while_its_block_lasts_and_leaves_nothing(board, tmp_path):
    with presence(board, tmp_path / "a") as a:
        with presence(board, tmp_path / "b") as b:
            assert a.alive(a.worker)
            assert a.alive(b.worker)
            assert b.alive(a.worker)
            assert a.others() == [b.worker]
            assert a.worker != b.worker
        assert not a.alive("somebody-1-abc")
        assert a.others() == []
        assert not a.alive(b.worker)
    assert board.items("") == {}
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "b"]


def test_silence_counts_by_the_observers_clock(board, tmp_path):
    clock = Clock()
    with presence(board, tmp_path / "here", clock, grace_s=2500) as here:
        other = presence(board, tmp_path / "there", Clock(), grace_s=2500)
        other.beat()
        for _ in range(10):  # it beats
            clock.now += 1000
            other.beat()
            here.beat()
            assert here.alive(other.worker)
        for _ in range(2):  # it is silent, but not for long enough
            clock.now += 1000
            here.beat()
            assert here.alive(other.worker)
        clock.now += 1000
        here.beat()
        assert not here.alive(other.worker)
        other.beat()  # it was stopped only
        here.beat()
        assert here.alive(other.worker)


def test_time_in_which_nobody_looked_is_not_the_others_silence(board, tmp_path):
    clock = Clock()
    with presence(board, tmp_path / "here", clock, grace_s=2500) as here:
        other = presence(board, tmp_path / "there", Clock(), grace_s=2500)
        other.beat()
        here.beat()
        clock.now += 1e6  # the storage was away, or this machine slept
        here.beat()
        assert here.alive(other.worker)


def test_the_dead_are_forgotten(board, tmp_path):
    with presence(board, tmp_path / "here") as here:
        other = presence(board, tmp_path / "there")
        other.beat()
        assert here.others() == [other.worker]
        here.forget(other.worker)
        assert here.others() == []
        assert [key for key in board.items("") if other.worker in key] == []


def test_a_thread_beats(board, tmp_path):
    with Presence(board, tmp_path, interval_s=0.01) as here:
        deadline = time.monotonic() + 60
        while board.get(f"beats/{here.worker}") < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert board.items("") == {}


@pytest.fixture
def killed(tmp_path):
    """Start a worker of a folder and kill it; return its id."""
    workers = []

    def start(url, folder):
        command = [sys.executable, "-c", WORKER, url, str(folder)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        workers.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in workers:
        process.kill()
        process.communicate()


def test_in_one_folder_a_killed_worker_is_known_to_be_dead_at_once(tmp_path, killed):
    url = f"sqlite:///{tmp_path}/study.db"
    board = Board(open_storage(url, say=print), "search")
    process, worker = killed(url, tmp_path)
    with presence(board, tmp_path) as here, presence(board, tmp_path / "elsewhere") as elsewhere:
        assert here.alive(worker)
        assert elsewhere.alive(worker)
        os.kill(process.pid, signal.SIGSTOP)  # stopped is not dead
        assert here.alive(worker)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        lock = tmp_path / "workers" / f"{worker}.lock"
        assert not here.alive(worker)
        assert lock.exists()  # others of this folder are to see it too
        assert not here.alive(worker)
        here.forget(worker)
        assert not lock.exists()
        assert elsewhere.alive(worker)  # for all it can know yet


def test_a_free_lock_of_another_machine_says_nothing(board, tmp_path):
    with presence(board, tmp_path) as here:
        other = presence(board, tmp_path / "there")
        other.beat()
        (tmp_path / "workers" / f"{other.worker}.lock").write_text("another boot")
        assert here.alive(other.worker)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(board, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="choose another --run-dir"):
        presence(board, tmp_path).__enter__()


def test_a_folder_that_is_a_file_is_told(board, tmp_path):
    (tmp_path / "workers").write_text("")
    with pytest.raises(RunError, match="choose another --run-dir"):
        presence(board, tmp_path).__enter__()
    assert board.items("") == {}


def test_whoever_looks_at_a_lock_does_not_keep_its_owner_from_it(board, tmp_path):
    here = presence(board, tmp_path)
    (tmp_path / "workers").mkdir()
    looker = filelock.FileLock(tmp_path / "workers" / f"{here.worker}.lock", thread_local=False)
    looker.acquire()
    threading.Timer(0.2, looker.release).start()
    with here:
        assert here.alive(here.worker)


def test_a_beat_that_fails_is_not_the_last_one(board, tmp_path, monkeypatch):
    failed, put = [], board.put

    def full(key, value):
        if value == 2:
            failed.append(value)
            raise OSError("database or disk is full")
        put(key, value)

    monkeypatch.setattr(board, "put", full)
    with Presence(board, tmp_path, interval_s=0.01) as here:
        deadline = time.monotonic() + 60
        while board.get(f"beats/{here.worker}") < 4:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert failed
