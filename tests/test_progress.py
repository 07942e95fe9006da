"""Progress as people see it: on a terminal, and in a file."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.progress import Progress as RichBars

from aebnas import progress as module
from aebnas.progress import ConsoleProgress, Progress


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def piped():
    console = Console(file=io.StringIO(), width=120)
    return ConsoleProgress(console), console.file


def test_nobody_watching_costs_nothing():
    with Progress().stage("trials", 10, 4) as stage:
        stage.advance()
        stage.note("x")


def test_lines_count_from_what_was_done_and_estimate_from_what_is_new(piped, clock):
    """Of 10 trials 4 were done earlier: 2 in 20 s leave 4, which take 40 s."""
    progress, file = piped
    with progress.stage("trials", 10, 4) as stage:
        stage.note("hypervolume 0.5")
        clock[0] = 10.0
        stage.advance()
        assert file.getvalue() == ""  # sparse
        clock[0] = 20.0
        stage.advance()
    assert file.getvalue() == "trials: 6/10, about 40 s left: hypervolume 0.5\n"


def test_no_more_is_left_than_up_to_the_end_of_the_stage(piped, clock):
    progress, file = piped
    with progress.stage("trials", 60) as stage:
        stage.within(100)
        for clock[0] in (20.0, 120.0):
            stage.advance()
    assert file.getvalue().splitlines() == ["trials: 1/60, about 80 s left", "trials: 2/60, about 0 s left"]


def test_a_bar_with_an_end_says_the_same(clock):
    clock[0] = 20.0
    for fields, shown in (({}, "0:09:50"), ({"end": 100.0}, "0:01:20"), ({"end": 10.0}, "0:00:00")):
        task = SimpleNamespace(time_remaining=590.0, fields=fields)
        assert module._LeftColumn().render(task).plain == shown
    assert module._LeftColumn().render(SimpleNamespace(time_remaining=None, fields={})).plain == "-:--:--"


def test_lines_of_a_new_stage_start_at_nothing(piped, clock):
    progress, file = piped
    with progress.stage("epochs", 100) as stage:
        clock[0] = 20.0
        stage.advance(25)
    assert file.getvalue() == "epochs: 25/100, about 60 s left\n"


def test_lines_wait_until_something_is_done(piped, clock):
    """Blocks that are waited for, because another process measures, come to be known none at a time."""
    progress, file = piped
    with progress.stage("measuring", 20) as stage:
        clock[0] = 20.0
        stage.advance(0)
        assert file.getvalue() == ""
        stage.advance(5)
    assert file.getvalue() == "measuring: 5/20, about 60 s left\n"


def test_bars_start_at_what_was_done(monkeypatch):
    added = []
    real = RichBars.add_task

    def spy(bars, description, **options):
        added.append((description, options["total"], options["completed"]))
        return real(bars, description, **options)

    monkeypatch.setattr(RichBars, "add_task", spy)
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with ConsoleProgress(console).stage("trials", 10, 4) as stage:
        stage.advance(2)
        stage.note("fine")
    assert added == [("trials", 10, 4)]
    assert "6/10" in console.file.getvalue()


def test_each_worker_has_a_line_of_its_own_on_a_terminal_until_it_leaves():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with ConsoleProgress(console).stage("trials", 10) as stage:
        stage.doing("worker 1", "begins")
        stage.doing("worker 2", "begins")
        stage.doing("worker 1", "building features 40 %")
        stage.doing("worker 2", None)
        stage.doing("worker 3", None)
        tasks = [task.description for task in stage._bars.tasks]
        stage._bars.refresh()
    assert tasks == ["trials", "  worker 1: building features 40 %"]
    assert "worker 1: building features 40 %" in console.file.getvalue()


def test_lines_for_logs_leave_out_what_single_workers_do(piped):
    progress, file = piped
    with progress.stage("trials", 10) as stage:
        stage.doing("worker 1", "begins")
    assert file.getvalue() == ""


def test_images_of_all_epochs_are_told_as_a_share(piped, clock):
    progress, file = piped
    with progress.stage("retraining finalists", 28806) as stage:
        clock[0] = 20.0
        stage.advance(2881)
    assert file.getvalue() == "retraining finalists: 10 %, about 180 s left\n"
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with ConsoleProgress(console).stage("retraining finalists", 28806) as stage:
        stage.advance(2881)
    assert "10 %" in console.file.getvalue() and "2881" not in console.file.getvalue()


def test_names_in_a_line_are_no_markup(clock):
    file = io.StringIO()
    ConsoleProgress(Console(file=file, width=40)).say("note: test has no sample of [unknown], [/b]")
    assert file.getvalue() == "note: test has no sample of [unknown], [/b]\n"
    file = io.StringIO()
    with ConsoleProgress(Console(file=file, width=40)).stage("decoding the images of data/[bold]x[/b]", 4) as stage:
        stage.note("[/i]")
        clock[0] = 20.0
        stage.advance(2)
    assert file.getvalue() == "decoding the images of data/[bold]x[/b]: 2/4, about 20 s left: [/i]\n"
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with ConsoleProgress(console).stage("decoding data/[bold]x[/b]", 4) as stage:
        stage.note("[/i]")
        stage.advance(2)
    assert "decoding data/[bold]x[/b]" in console.file.getvalue() and "[/i]" in console.file.getvalue()
