"""Processes of our own, and what a terminal tells them."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from aebnas.processes import Interrupts, bury, settle_in, spawn

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")


class _Finalised:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_that_was_lost_in_a_finaliser_is_remembered():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        interrupts.check()
        finalised = _Finalised()
        del finalised
        interrupts.check()
        pytest.fail("it is lost")
    assert signal.getsignal(signal.SIGINT) == before


def test_who_ignores_ctrl_c_goes_on_doing_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
            interrupts.check()
    finally:
        signal.signal(signal.SIGINT, before)


def _answer(connection):
    settle_in()
    connection.send("there")
    connection.recv()


def test_a_process_that_has_just_been_spawned_survives_ctrl_c():
    process, connection = spawn(_answer)
    os.kill(process.pid, signal.SIGINT)
    assert connection.recv() == "there"
    os.kill(process.pid, signal.SIGINT)
    connection.send("end")
    bury(process)
    assert process.exitcode == 0
    # What is held back while one is started is let through again.
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


class _Interrupted:
    """Ctrl-C comes while it is sent to another process, to a thread that lets it through."""

    def __init__(self):
        self.now = threading.Event()
        self.thread = threading.Thread(target=self._interrupt, daemon=True)
        self.thread.start()

    def _interrupt(self):
        self.now.wait()
        signal.raise_signal(signal.SIGINT)

    def __reduce__(self):
        self.now.set()
        self.thread.join()
        return int, ()


def _write(connection, number, path):
    settle_in()
    path.write_text(f"{number}")


def test_ctrl_c_that_comes_to_another_thread_waits_until_the_process_has_all_it_needs(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        spawn(_write, _Interrupted(), tmp_path / "told")
    assert signal.getsignal(signal.SIGINT) == before
    end = time.monotonic() + 60
    while not (tmp_path / "told").exists():
        assert time.monotonic() < end, "it never got all of its arguments"
        time.sleep(0.05)
