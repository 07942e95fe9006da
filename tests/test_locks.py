"""One process measures while the others pause: between threads, between processes, and when one of them dies."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
import time

import pytest

from aebnas.locks import Quiet, held

pytest.importorskip("fcntl")
PATIENCE_S = 60
WORKER = """\
import pathlib, sys, time
from aebnas.locks import Quiet
quiet, step = Quiet(pathlib.Path(sys.argv[1])), 0
with quiet.working():
    while True:
        quiet.let_pass()
        step += 1
        pathlib.Path(sys.argv[2]).write_text(str(step))
        time.sleep(0.001)
"""


def wait_until(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def workers(tmp_path):
    """Three processes that work, and how far each has come."""
    files = [tmp_path / f"steps{number}" for number in range(3)]
    started = [subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path / "locks"), str(file)]) for file in files]

    def steps():
        return [int(file.read_text() or 0) if file.exists() else 0 for file in files]

    try:
        wait_until(lambda: all(steps()))
        yield started, steps
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_all_work_at_once_and_pause_while_one_measures(workers, tmp_path):
    _, steps = workers
    quiet = Quiet(tmp_path / "locks")
    for _ in range(3):
        with quiet.measuring():
            before = steps()
            time.sleep(0.1)
            assert steps() == before
        wait_until(lambda before=before: all(now > then for now, then in zip(steps(), before, strict=True)))


def test_a_process_that_is_killed_keeps_nobody_waiting(workers, tmp_path):
    processes, _ = workers
    for process in processes:
        process.kill()
        process.wait()
    said = []
    with Quiet(tmp_path / "locks", said.append).measuring():
        pass
    assert said == []


def test_who_works_may_measure_in_the_middle_of_it_and_goes_on(tmp_path):
    quiet, said = Quiet(tmp_path, patience_s=0.2), []
    other = Quiet(tmp_path, said.append, patience_s=0.2)
    with quiet.working():
        with quiet.measuring():
            pass
        with other.measuring():
            pass
        assert said == ["other work on this machine did not pause: what is measured now may be noisy"]
        with quiet.resting(), other.measuring():
            pass
    with other.measuring():
        pass
    assert len(said) == 1


def test_two_never_measure_at_once(tmp_path):
    inside, most = [0], [0]

    def measure():
        for _ in range(20):
            with Quiet(tmp_path).measuring():
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=measure) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_nobody_is_waited_for_for_ever(tmp_path):
    said = []
    holding, done = threading.Event(), threading.Event()

    def hold():
        with Quiet(tmp_path).working():
            holding.set()
            done.wait(PATIENCE_S)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    with Quiet(tmp_path, said.append, patience_s=0.05).measuring():
        assert said == ["other work on this machine did not pause: what is measured now may be noisy"]
    done.set()
    thread.join()


def test_a_folder_that_cannot_be_used_means_that_nobody_pauses(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    quiet = Quiet(tmp_path / "file" / "locks")
    with quiet.working():
        quiet.let_pass()
        with quiet.measuring(), quiet.resting():
            pass
    assert "nobody pauses for measuring" in caplog.text


def test_a_disk_without_locks_means_that_nobody_pauses(tmp_path, monkeypatch, caplog):
    def flock(file, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    quiet = Quiet(tmp_path)
    with quiet.working():
        quiet.let_pass()
        with quiet.measuring():
            pass
    assert "No locks available" in caplog.text


def test_a_thread_that_waits_for_one_that_measures_pauses(tmp_path):
    said, lock, begun = [], threading.Lock(), threading.Event()
    quiet = Quiet(tmp_path, said.append, patience_s=PATIENCE_S)

    def measure():
        with held(lock, quiet.resting):
            begun.set()
            time.sleep(0.1)  # the other one wants the lock by now
            with quiet.measuring():
                pass

    thread = threading.Thread(target=measure)
    with quiet.working():
        thread.start()
        assert begun.wait(PATIENCE_S)
        with held(lock, quiet.resting):
            pass
    thread.join()
    assert said == []
