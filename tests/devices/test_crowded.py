"""Whether others keep the processors busy that training wants to have."""

from __future__ import annotations

import os

import pytest

from aebnas.devices import crowded as module
from aebnas.devices.crowded import busy_processors, crowded


@pytest.mark.parametrize(
    ("busy", "threads", "processors", "fix"),
    [
        (0.4, 2, 2, None),
        (1.0, 2, 2, "OMP_NUM_THREADS=1 "),
        (9.0, 2, 2, "OMP_NUM_THREADS=1 "),
        (9.0, 1, 2, None),
        (3.9, 16, 16, None),
        (6.5, 16, 16, "OMP_NUM_THREADS=9 "),
        (6.5, 8, 16, None),
        (None, 8, 2, None),
    ],
)
def test_a_word_is_said_where_threads_have_to_share_their_processors(busy, threads, processors, fix):
    found = crowded(threads, processors=processors, busy=lambda: busy)
    assert (found is not None) == (fix is not None)
    if found is not None and fix is not None:
        assert f"{processors} processors busy (load {busy:.1f}), and the {threads} threads" in found.found
        assert fix in found.fix and str(found) == f"{found.found}: {found.fix}"


@pytest.fixture
def told(monkeypatch, tmp_path):
    """Let the system tell a load average, and how many threads run now, this one among them."""

    def tell(load: float, *running: int) -> None:
        left = list(running)

        class Told:
            def exists(self):
                return bool(running)

            def read_text(self):
                return f"{load} 0.10 0.10 {left.pop(0)}/900 4242\n"

        monkeypatch.setattr(module, "_LOADAVG", Told())
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.1, 0.1), raising=False)

    return tell


def test_a_load_that_has_ended_is_none(told):
    told(3.0, 1, 1, 1, 1, 1)
    assert busy_processors() == 0
    told(3.0, 1, 3, 2, 1, 1)
    assert busy_processors() == 2
    told(1.5, 9, 9, 9, 9, 9)
    assert busy_processors() == 1.5


def test_where_only_the_average_is_known_it_counts(told):
    told(3.0)
    assert busy_processors() == 3.0


def test_where_the_system_does_not_tell_nothing_is_said(monkeypatch):
    monkeypatch.delattr(os, "getloadavg")
    assert busy_processors() is None

    def refused():
        raise OSError("no load")

    monkeypatch.setattr(os, "getloadavg", refused, raising=False)
    assert busy_processors() is None
