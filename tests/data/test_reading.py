"""Work that processes share: in order, with errors as they were, and without processes where none may be started."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest
import torch

from aebnas.data import reading
from aebnas.data.names import Names
from aebnas.data.reading import fetch
from aebnas.errors import DataError, RunFailed


def squared(chunk):
    return [number**2 for number in chunk]


def refuses(chunk):
    if 7 in chunk:
        raise DataError("seven is wrong")
    return chunk


def dies(chunk):
    if 7 in chunk:
        os.kill(os.getpid(), signal.SIGKILL)
    return chunk


def where(chunk):
    return os.getpid()


def drawn(chunk):
    return float(torch.rand(1))


CHUNKS = [[number, number + 1] for number in range(0, 20, 2)]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_everything_comes_in_order(workers):
    assert [number for found in fetch(squared, CHUNKS, workers) for number in found] == [n**2 for n in range(20)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_the_one_that_was_raised(workers):
    with pytest.raises(DataError, match=r"^seven is wrong$"):
        list(fetch(refuses, CHUNKS, workers))


def test_a_killed_process_is_one_sentence():
    with pytest.raises(RunFailed, match=r"set data\.workers lower"):
        list(fetch(dies, CHUNKS, 2))


def test_processes_are_used_for_much_work_only():
    assert os.getpid() not in set(fetch(where, CHUNKS, 2))
    assert set(fetch(where, CHUNKS[:3], 2)) == {os.getpid()}


def test_a_process_that_may_start_none_does_the_work_itself(monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {"daemon": True})
    assert set(fetch(where, CHUNKS, 2)) == {os.getpid()}


def test_random_transforms_differ_from_epoch_to_epoch_and_the_global_generator_stays():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again, other = (list(fetch(drawn, CHUNKS, 2, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert first == again != other


def test_default_workers_follow_the_processors(monkeypatch):
    for cores, workers in ((1, 0), (2, 2), (16, 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        assert reading.default_workers() == workers
    monkeypatch.setattr(reading, "_CONTEXT", None)
    assert reading.default_workers() == 0


def test_names_are_kept_as_they_are():
    names = ["a", "", "ä/ö.png", "broken\udcff", "b"]
    found = Names.of(names)
    assert [*found] == names
    assert [found[place] for place in range(5)] == names
    assert found == Names.of(names)
    assert found != Names.of([*names[:4], "c"])
    assert len(Names.of([])) == 0
