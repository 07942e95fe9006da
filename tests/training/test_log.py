"""Curves of trainings: what is told, and what is written."""

from __future__ import annotations

import csv
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from aebnas.data.preprocessing import identity
from aebnas.data.splits import TensorSplit
from aebnas.errors import MissingExtraError
from aebnas.training.fit import Trainee, fit
from aebnas.training.log import COLUMNS, Epoch, Subject, TrainingLog, open_log
from aebnas.training.objective import Objective
from aebnas.training.settings import FitSettings

CPU = torch.device("cpu")
SUBJECT = Subject("branch-1", "search", "disjoint", ("stem",), ("conv > pooled-linear",))


def epoch(number: int, stopped: bool = False, phase: str = "") -> Epoch:
    return Epoch(phase, number, 3, 1 / number, (number / 10,), 0.25, stopped)


def read(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def split(count: int = 40, seed: int = 0) -> TensorSplit:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    images = torch.randn(count, 1, 2, 2, generator=generator) + labels[:, None, None, None]
    return TensorSplit(images, labels, identity(1))


def fitted(told, watch=None, epochs=3, resume=None):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    trainee = Trainee(net, lambda images: [net(images)], (net,))
    settings = FitSettings(epochs=epochs, batch_size=16, lr=0.05)
    result = fit(
        trainee,
        split(),
        split(20, 1),
        Objective((1.0,)),
        settings,
        device=CPU,
        seed=0,
        name="warm-up",
        told=told,
        watch=watch,
        resume=resume,
    )
    return net, result


def test_a_training_tells_of_every_epoch():
    told = []
    _, result = fitted(told.append)
    assert [one.number for one in told] == [1, 2, 3]
    assert {(one.planned, one.phase, one.stopped) for one in told} == {(3, "warm-up", False)}
    assert [list(one.accuracies) for one in told] == result.accuracies
    assert all(one.seconds > 0 for one in told)
    assert told[0].loss > told[-1].loss > 0


def test_the_loss_is_the_mean_over_all_samples_of_the_epoch(monkeypatch):
    """Batches of 16, 16 and 8: each sample counts the same."""
    losses = iter([1.0, 2.0, 4.0])
    monkeypatch.setattr(Objective, "__call__", lambda self, logits, *_: logits[0].sum() * 0 + next(losses))
    told = []
    fitted(told.append, epochs=1)
    assert told[0].loss == pytest.approx((16 * 1 + 16 * 2 + 8 * 4) / 40)


def test_what_a_training_becomes_does_not_hang_on_its_log():
    alone, watched = fitted(None), fitted(lambda _: None)
    assert alone[1].accuracies == watched[1].accuracies
    for one, other in zip(alone[0].parameters(), watched[0].parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_training_that_is_stopped_says_so_and_goes_on_counting():
    told = []
    _, result = fitted(told.append, watch=lambda epochs, _: epochs < 2)
    assert [(one.number, one.stopped) for one in told] == [(1, False), (2, True)]
    fitted(told.append, resume=result.paused)
    assert [(one.number, one.stopped) for one in told] == [(1, False), (2, True), (3, False)]


def test_a_csv_file_has_a_line_per_epoch_and_exit(tmp_path):
    subject = Subject("network-1", "final", "joint", ("stem", "final"), ("relu > pooled-linear", ""))
    with open_log("csv", tmp_path).training(subject) as tell:
        tell(Epoch("", 1, 2, 0.5, (0.25, 0.75), 1.5, False))
        tell(Epoch("", 2, 2, 0.4, (0.3, 0.8), 1.5, True))
    rows = read(tmp_path / "training" / "network-1.csv")
    assert tuple(rows[0]) == COLUMNS
    assert [(row["epoch"], row["exit"], row["accuracy"], row["stopped"]) for row in rows] == [
        ("1", "stem", "0.25", "0"),
        ("1", "final", "0.75", "0"),
        ("2", "stem", "0.3", "1"),
        ("2", "final", "0.8", "1"),
    ]
    assert {row["budget"] for row in rows} == {"final"} and rows[0]["loss"] == "0.5"


def test_going_on_adds_lines_and_beginning_again_replaces_them(tmp_path):
    log, path = open_log("csv", tmp_path), tmp_path / "training" / "branch-1.csv"
    with log.training(SUBJECT) as tell:
        tell(epoch(1, stopped=True))
    with open_log("csv", tmp_path).training(SUBJECT, resumed=True) as tell:
        tell(epoch(2))
    assert [row["epoch"] for row in read(path)] == ["1", "2"]
    with log.training(SUBJECT) as tell:
        tell(epoch(1))
        tell(epoch(1, phase="then"))
    assert [(row["epoch"], row["phase"]) for row in read(path)] == [("1", ""), ("1", "then")]


def test_trainings_at_the_same_time_do_not_mix_their_lines(tmp_path):
    """Each worker of a search has a log of its own, over the same folder."""

    def train(number: int) -> None:
        subject = Subject(f"branch-{number}", "search", "disjoint", ("stem",), (f"layers {number}",))
        with open_log("csv", tmp_path).training(subject) as tell:
            for one in range(1, 51):
                tell(epoch(one))

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(train, range(4)))
    for number in range(4):
        rows = read(tmp_path / "training" / f"branch-{number}.csv")
        assert [int(row["epoch"]) for row in rows] == list(range(1, 51))
        assert {row["layers"] for row in rows} == {f"layers {number}"}


def test_a_log_that_cannot_be_written_is_warned_of_once_and_ends_nothing(tmp_path, caplog):
    (tmp_path / "training").write_text("a file in the way")
    log = open_log("csv", tmp_path)
    for _ in range(2):
        with log.training(SUBJECT) as tell:
            tell(epoch(1))
    assert len([record for record in caplog.records if "training curves are not kept" in record.message]) == 1


def test_no_log_wants_to_know_nothing(tmp_path):
    with open_log("none", tmp_path).training(SUBJECT) as tell:
        assert tell is None
    assert type(open_log("none", tmp_path)) is TrainingLog and list(tmp_path.iterdir()) == []


def test_tensorboard_reads_what_was_written(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = open_log("tensorboard", tmp_path)
    with log.training(SUBJECT) as tell:
        tell(epoch(1))
        tell(epoch(2, stopped=True))
    with log.training(SUBJECT, resumed=True) as tell:
        tell(epoch(3))
    events = EventAccumulator(str(tmp_path / "tensorboard" / "branch-1"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (1, pytest.approx(1)),
        (2, pytest.approx(0.5)),
        (3, pytest.approx(1 / 3)),
    ]
    assert [event.value for event in events.Scalars("accuracy/stem")] == pytest.approx([0.1, 0.2, 0.3])


def test_what_was_interrupted_and_begun_again_is_on_the_board_once(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = open_log("tensorboard", tmp_path)
    for count in (3, 2):
        # Files are read in the order of their names, which begin with the second.
        time.sleep(1.1)
        with log.training(SUBJECT) as tell:
            for number in range(1, count + 1):
                tell(epoch(number))
    events = EventAccumulator(str(tmp_path / "tensorboard" / "branch-1"), purge_orphaned_data=True)
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2]


def test_tensorboard_that_is_not_installed_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'aebnas\[tensorboard\]'"):
        open_log("tensorboard", tmp_path)
