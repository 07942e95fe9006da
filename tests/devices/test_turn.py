from __future__ import annotations

import multiprocessing
import threading

import pytest

from aebnas.devices.profile import HardwareProfile
from aebnas.devices.turn import turn


def profile(connection="local", **changes) -> HardwareProfile:
    return HardwareProfile(**{"name": "board", "description": "", "connection": connection, **changes})


def hold(folder, held, free) -> None:
    with turn(profile(threads=1), folder, lambda _: None):
        held.set()
        free.wait(30)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the local device until ``free`` is set."""
    context = multiprocessing.get_context("fork")
    held, free = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, held, free))
    process.start()
    assert held.wait(30)
    yield free
    free.set()
    process.join()


def test_one_waits_for_the_other_and_says_so_whatever_the_threads(tmp_path, holder):
    said = []

    def say(text):
        said.append(text)
        holder.set()

    with turn(profile(threads=2), tmp_path, say, patience_s=0.05):
        assert holder.is_set()
    assert said == ["another process is measuring on board: waiting for it"]


def test_another_device_is_not_waited_for(tmp_path, holder):
    with turn(profile({"ssh": "pi@pi5"}), tmp_path, pytest.fail, patience_s=0.05):
        assert not holder.is_set()


def test_a_turn_ends_with_its_block(tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match="spoilt"), turn(profile(), tmp_path, pytest.fail, patience_s=0.05):
            raise ValueError("spoilt")


def test_threads_of_one_process_take_turns_too(tmp_path):
    inside, most = [], []

    def work() -> None:
        with turn(profile(), tmp_path, lambda _: None):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


def test_without_a_folder_there_are_no_turns_but_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with turn(profile(), tmp_path / "file", pytest.fail):
        assert "other processes may measure at the same time" in caplog.text
