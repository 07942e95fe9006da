"""Costs that another process measures are those that this one would have measured."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from optuna.storages import InMemoryStorage

from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.costs.blocks import Figures
from aebnas.costs.model import CostModel
from aebnas.costs.overhead import Overhead
from aebnas.errors import BranchError, DeviceError, MeasurementError, RunFailed
from aebnas.locks import Quiet
from aebnas.searching.cost_desk import CostDesk, Inquiry, publish
from aebnas.searching.costing import Kind
from aebnas.sharing.board import Board
from aebnas.sharing.presence import Presence

KIND = Kind("fp32", "max-probability")


class Timer:
    """Measures made-up figures that differ from block to block."""

    stateful = False

    def __init__(self):
        self.asked, self.error = [], None

    def overhead_ms(self):
        return 0.01

    def blocks(self, blocks):
        if self.error is not None:
            raise self.error
        self.asked += blocks
        return {name: Figures(0.1 + len(name) / 100, 0.05 + sum(map(ord, name)) / 1e5, 0.2) for name in blocks}

    def forced(self, networks):
        return {}

    def mixed(self, networks):
        return {}


@pytest.fixture
def board():
    return Board(InMemoryStorage(), "one")


@pytest.fixture
def measured(prepared):
    timer = Timer()
    return CostModel(prepared.backbone, timer, overhead=Overhead(0.02, 1.1, 0.003, spread=0.01, paths=9)), timer


@pytest.fixture
def specs(prepared):
    near, far = (point.name for point in prepared.backbone.attach_points)
    return [(BranchSpec(near),), (BranchSpec(near), BranchSpec(far)), (BranchSpec(far, (PartSpec("relu"),)),)]


@pytest.fixture
def desk(measured, board, tmp_path):
    """A leader that answers, and a worker that asks."""
    model, _ = measured
    publish({KIND: model}, board)
    with (
        Presence(board, tmp_path / "leader") as leader,
        Presence(board, tmp_path / "worker") as worker,
        CostDesk({KIND: model}, board, leader) as desk,
    ):
        inquiry = Inquiry(board, worker, lambda: leader.worker, pytest.fail, Quiet(tmp_path / "quiet"))
        with inquiry.tidy():
            yield desk, inquiry
    assert board.items("asked/") == board.items("told/") == {}


def test_told_costs_are_the_measured_ones(desk, measured, specs, prepared):
    model, timer = measured
    told = desk[1].models([KIND], prepared.backbone)[KIND]
    assert told.names == model.names
    assert np.array_equal(told.backbone, model.backbone)
    for branches in specs:
        ours, theirs = told.network(branches), model.network(branches)
        for mask in ([True] * len(branches), [False] * len(branches)):
            assert np.array_equal(ours.exit_costs(mask), theirs.exit_costs(mask), equal_nan=True)
        assert np.array_equal(ours.truncated(0), theirs.truncated(0))
    assert len(timer.asked) == len(set(timer.asked))  # the leader measured each block once


def test_what_is_known_is_not_asked_for_again(desk, measured, specs, prepared):
    told = desk[1].models([KIND], prepared.backbone)[KIND]
    told.network(specs[0])
    measured[1].error = MeasurementError("the device is gone")
    told.network(specs[0])


@pytest.mark.parametrize("kind", [MeasurementError, BranchError])
def test_what_a_candidate_fails_of_reaches_who_asked(desk, measured, specs, prepared, kind):
    told = desk[1].models([KIND], prepared.backbone)[KIND]
    measured[1].error = kind("that block will not do")
    with pytest.raises(kind, match="that block will not do"):
        told.network(specs[0])
    desk[0].check()
    measured[1].error = None
    told.network(specs[0])


def test_a_lost_device_ends_the_search_of_both(desk, measured, specs, prepared):
    told = desk[1].models([KIND], prepared.backbone)[KIND]
    measured[1].error = DeviceError("ssh: no route to host")
    with pytest.raises(DeviceError, match="no route"):
        told.network(specs[0])
    with pytest.raises(DeviceError, match="no route"):
        desk[0].check()


def test_a_leader_that_is_gone_is_said(measured, board, specs, prepared, tmp_path):
    publish({KIND: measured[0]}, board)
    with Presence(board, tmp_path) as worker, Presence(board, tmp_path) as leader:
        inquiry = Inquiry(board, worker, lambda: leader.worker, pytest.fail, Quiet(tmp_path / "quiet"))
        told = inquiry.models([KIND], prepared.backbone)[KIND]
        ender = threading.Timer(0.3, leader.close)
        ender.start()
        with pytest.raises(RunFailed, match="the process that leads this search and measures for it is gone"):
            told.network(specs[0])
        ender.join()


def test_questions_of_the_dead_are_taken_away(measured, board, specs, tmp_path):
    with Presence(board, tmp_path) as leader:
        with Presence(board, tmp_path) as worker:
            branches = [spec.to_json() for spec in specs[0]]
            question = {"number": 1, "kind": list(KIND), "branches": branches, "cascade": "none"}
            board.put(f"asked/{worker.worker}", question)
            desk = CostDesk({KIND: measured[0]}, board, leader)
            desk.answer()
            assert board.get(f"told/{worker.worker}")["number"] == 1
        desk.answer()
        assert board.items("asked/") == board.items("told/") == {}


def test_costs_that_were_never_published_are_missed_by_name(board, prepared, tmp_path):
    with Presence(board, tmp_path) as worker:
        inquiry = Inquiry(board, worker, lambda: worker.worker, pytest.fail, Quiet(tmp_path / "quiet"))
        with pytest.raises(RunFailed, match="has no costs for fp32, max-probability"):
            inquiry.models([KIND], prepared.backbone)


def test_a_leader_at_work_pauses_while_its_desk_measures(desk, measured, specs, prepared, tmp_path):
    model, timer = measured
    said, measuring = [], threading.Event()
    quiet = Quiet(tmp_path / "machine", said.append, patience_s=2)
    model._resting = quiet.resting
    blocks = timer.blocks

    def quietly(wanted):
        measuring.set()
        with quiet.measuring():
            return blocks(wanted)

    timer.blocks = quietly
    told = desk[1].models([KIND], prepared.backbone)[KIND]
    asker = threading.Thread(target=lambda: told.network(specs[0]))
    with quiet.working():
        asker.start()
        assert measuring.wait(60)
        model.network(specs[1])
    asker.join()
    assert said == []
