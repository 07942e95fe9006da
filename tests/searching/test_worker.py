"""A process that helps a search: when it begins, when it ends, and when it must not begin at all."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import filelock
import numpy as np
import pytest
from optuna.trial import TrialState, create_trial

from aebnas.cli_worker import _address
from aebnas.errors import DataError, RunError
from aebnas.progress import Progress
from aebnas.run_folder import RunFolder
from aebnas.searching import joining, watch, workplace
from aebnas.searching.invitation import Invitation
from aebnas.searching.loop import Archive, _next, run_trials
from aebnas.searching.meeting import NoSearch, meet
from aebnas.searching.study import FAILURE, SPEC, STORAGE_VARIABLE, Address, open_study, queue
from aebnas.searching.worker import Helped, _experiment, _Helper, help_search
from aebnas.sharing.board import Board
from aebnas.sharing.storage import open_storage


@pytest.fixture
def address(tmp_path):
    return Address(f"sqlite:///{tmp_path}/shared.db", "toy")


def board_of(address):
    return Board(open_storage(address.url, say=print), address.study)


def test_a_search_whose_leader_has_just_come_has_not_begun(address, tmp_path):
    with (
        meet(RunFolder(tmp_path / "leader"), address, print, first=True),
        pytest.raises(NoSearch, match="run the same"),
    ):
        help_search(RunFolder(tmp_path / "own"), address)


def test_a_worker_never_names_the_shared_files(address, tmp_path):
    board = board_of(address)
    shared = Address(address.url, address.study, str(tmp_path / "artifacts"))
    with pytest.raises(NoSearch, match="shares no files, or has not begun"):
        help_search(RunFolder(tmp_path / "own"), shared)
    assert board.items("") == {}


def test_a_folder_without_a_run_may_hold_one_soon(tmp_path, monkeypatch):
    monkeypatch.delenv(STORAGE_VARIABLE, raising=False)
    with pytest.raises(NoSearch, match="holds no run"):
        _address(RunFolder(tmp_path), None, None, None)


def test_no_trial_begins_once_the_search_is_closing(toy_experiment):
    states = [SimpleNamespace(state="open"), SimpleNamespace(state="closing")]
    met = SimpleNamespace(invitation=lambda: states.pop(0))
    helper = _Helper(met, toy_experiment(), print, lambda: True, print)
    assert [helper._may_go_on(), helper._may_go_on()] == [True, False]


def test_who_was_started_by_the_leader_goes_when_nothing_is_left_to_begin(address, tmp_path):
    Invitation("closing", {}, {}, {}, "", "").write(board_of(address))
    with meet(RunFolder(tmp_path / "leader"), address, print, first=True) as met:
        assert met.lead()
        helped = help_search(RunFolder(tmp_path / "own"), address, patient=False)
    assert helped == Helped(0, closed=False, led=True)


def test_machines_do_not_share_a_file_as_their_database(address, tmp_path):
    folder = RunFolder(tmp_path / "run")
    path = folder.path / "workers" / "far-1-abc.lock"
    path.parent.mkdir(parents=True)
    path.write_text("another boot")
    with filelock.FileLock(path), pytest.raises(RunError, match=r"far-1-abc, of another machine, .* --storage"):
        help_search(folder, address)
    with pytest.raises(NoSearch):  # it has gone
        help_search(folder, address)


def test_data_are_looked_for_in_the_folder_of_the_worker(toy_experiment, tmp_path):
    experiment = toy_experiment()
    invitation, address = SimpleNamespace(parsed=lambda: (experiment, None, None)), Address("sqlite:///x", "toy")
    with pytest.raises(DataError, match=r"--data-dir .* holds no data.npz"):
        _experiment(invitation, address, {}, tmp_path, None)
    assert _experiment(invitation, address, {}, None, None).data.path == experiment.data.path
    np.savez(tmp_path / "data.npz")
    assert _experiment(invitation, address, {}, tmp_path, None).data.path == tmp_path / "data.npz"


def test_who_joins_a_search_has_the_data_where_it_was_told(toy_experiment, address, tmp_path, monkeypatch):
    leaders, given = toy_experiment(), {}
    mine = leaders.override({"data.path": tmp_path / "moved.npz"})
    folder = SimpleNamespace(experiment=lambda: leaders, path=tmp_path)
    monkeypatch.setattr(joining, "help_search", lambda *_, **options: given.update(options))
    joining._help(folder, mine, address, Progress(), first=True)
    invitation = SimpleNamespace(parsed=lambda: (leaders, None, None))
    assert _experiment(invitation, address, given["own"], None, None).data.path == tmp_path / "moved.npz"


def test_given_data_are_taken_as_the_search_has_them(toy_experiment, toy_data, start, tmp_path, monkeypatch):
    """Those of before, where an earlier version began it."""
    earlier = dataclasses.replace(toy_data, fingerprint="as before")
    given = dataclasses.replace(toy_data, before=lambda: earlier)
    experiment, folder = toy_experiment().model_copy(update={"datasets": given}), RunFolder(tmp_path / "run")
    start(folder, experiment)
    opened = []

    def open_place(experiment, *_, **__):
        opened.append(experiment.datasets)
        return SimpleNamespace(prepared=SimpleNamespace(fingerprint="of both"))

    monkeypatch.setattr(workplace.Workplace, "open", open_place)
    helper = _Helper(SimpleNamespace(folder=folder), experiment, Progress(), lambda: True, print)
    for kept in (earlier, given):
        helper._place(Invitation("open", {}, {}, {}, kept.fingerprint, "of both"), None, None)
        assert opened[-1] is kept
    with pytest.raises(RunError, match=r"are not those of the search .*: give the same datasets"):
        helper._place(Invitation("open", {}, {}, {}, "of others", "of both"), None, None)


def test_workers_are_sent_the_data_of_the_search_and_no_other_version(toy_experiment, toy_data, tmp_path, monkeypatch):
    sent = []

    def hire(orders, *_):
        sent.append(orders.given.datasets)
        raise Broken

    earlier = dataclasses.replace(toy_data, fingerprint="as before")
    given = dataclasses.replace(toy_data, before=lambda: earlier)  # which could not even be sent
    monkeypatch.setattr(watch, "Crew", hire)
    monkeypatch.setattr(watch, "finished", lambda _: 0)
    for kept in (given, earlier):
        place = SimpleNamespace(
            experiment=toy_experiment().model_copy(update={"datasets": given}),
            prepared=SimpleNamespace(data=kept),
            folder=RunFolder(tmp_path),
        )
        leader = watch.Leader(place, SimpleNamespace(address=Address("sqlite:///x.db", "x")), None, Progress())
        with pytest.raises(Broken):
            leader._watch(Archive, None, SimpleNamespace(stage=None))
        assert (sent[-1].fingerprint, sent[-1].before) == (kept.fingerprint, None)


def test_machines_with_one_home_folder_do_not_pause_for_each_other(monkeypatch):
    folders = set()
    for name in ("one", "two", "two"):
        monkeypatch.setattr("platform.node", lambda name=name: name)
        folders.add(workplace.quiet_here()._folder)
    assert len(folders) == 2


class Broken(Exception):
    pass


def test_a_leader_that_waits_for_the_trials_of_others_sees_that_nobody_answers_them(toy_experiment, tmp_path, archive):
    settings = toy_experiment(search__trials=1).search
    study = open_study(open_storage(f"sqlite:///{tmp_path}/study.db", say=print), "toy", settings)
    queue(study, [{}])
    study.ask()
    assert study.trials[0].state == TrialState.RUNNING
    place = SimpleNamespace(experiment=toy_experiment(search__trials=1), folder=RunFolder(tmp_path))
    looks = []

    def look(found: Archive) -> None:
        looks.append(found)
        if len(looks) == 3:
            raise Broken

    with pytest.raises(Broken):
        run_trials(study, place, archive=archive(), look=look)


def test_what_was_given_back_is_not_found_before_it_is_run_again(archive, evaluation):
    made = evaluation([(0.8, 50, 0.5)])
    attributes = {SPEC: made.spec.to_json()}
    again = create_trial(state=TrialState.FAIL, user_attrs=attributes)
    failed = create_trial(state=TrialState.FAIL, user_attrs={**attributes, FAILURE: "it would not train"})
    place = SimpleNamespace(known=lambda _: made)
    found = archive()
    assert found.sync([again], place) == []
    failed.number = 1
    assert found.sync([again, failed], place) == [made]


def test_a_trial_that_ends_while_trials_are_counted_makes_no_room_for_another(toy_experiment, tmp_path):
    experiment = toy_experiment(search__trials=1)
    study = open_study(open_storage(f"sqlite:///{tmp_path}/study.db", say=print), "toy", experiment.search)
    trial, read = study.ask(), study.get_trials

    def read_and_end(**options):
        found = read(**options)
        study.tell(trial, [0.5, 1.0], skip_if_finished=True)
        return found

    study.get_trials = read_and_end
    assert _next(study, SimpleNamespace(experiment=experiment, folder=RunFolder(tmp_path)), None, None) is None
