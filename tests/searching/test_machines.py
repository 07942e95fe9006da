"""Workers with folders of their own, that share nothing with the leader but a database and an artifact store."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
import yaml
from processes import done, ended, started, trials_of, undisturbed, wait_until

from aebnas.errors import RunError
from aebnas.run import Run
from aebnas.run_folder import RunFolder
from aebnas.searching import meeting
from aebnas.searching.meeting import NoSearch
from aebnas.searching.search import search
from aebnas.searching.study import Address, without_password
from aebnas.searching.worker import Helped, help_search, once_begun
from aebnas.sharing.lost import WORKER

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")


@pytest.fixture
def shared(toy_experiment, postgres, tmp_path):
    """Write an experiment that meets in a database; return it and its file."""

    def make(**options):
        meets = {"search__storage": postgres, "search__artifacts": str(tmp_path / "artifacts"), "search__study": "toy"}
        plain = {"search__rungs": False, "regime__training__epochs": 60, **meets, **options}
        experiment = toy_experiment(**plain)
        file = tmp_path / "toy.yaml"
        file.write_text(experiment.to_yaml())
        return experiment, file

    return make


def test_two_machines_help_and_the_database_is_killed_meanwhile(shared, postgres, postgres_server, tmp_path):
    experiment, file = shared(search__trials=18, regime__training__epochs=400)
    folders = [RunFolder(tmp_path / name) for name in ("leader", "one", "two")]
    leader, *others = folders
    meets = ["--storage", postgres, "--artifacts", tmp_path / "artifacts", "--study", "toy", "--threads", "1"]
    with started("search", file, "--run-dir", leader.path) as process:
        wait_until(leader.backbone_file.exists, process)
        with (
            started("worker", others[0].path, *meets) as first,
            started("worker", others[1].path, *meets) as second,
        ):
            wait_until(lambda: all(list(one.evaluations.glob("*.json")) for one in others), process)
            postgres_server.kill()
            postgres_server.start()
            said = ended(process)
            for helper in (first, second):
                assert "trials run here" in ended(helper)
    assert "finalist" in said
    trials = trials_of(leader)
    assert 18 <= len(done(trials)) <= 20
    assert len({trial.user_attrs[WORKER] for trial in trials if WORKER in trial.user_attrs}) == 3
    assert Run(leader.path).rows == undisturbed(experiment, trials, tmp_path / "alone")
    # What several of them have is the work of one.
    kept = [(path.name, path.read_bytes()) for one in folders for path in one.path.glob("branches/*.pt")]
    assert len({name for name, _ in kept}) == len(set(kept)) < len(kept)
    assert (others[0].path / "backbone.pt").read_bytes() == leader.backbone_file.read_bytes()


def test_a_leader_that_is_gone_with_its_disk_is_followed_by_another_machine(shared, tmp_path, monkeypatch):
    experiment, file = shared(search__trials=5)
    first, second = RunFolder(tmp_path / "first"), RunFolder(tmp_path / "second")
    with started("search", file, "--run-dir", first.path) as process:
        wait_until(lambda: len(list(first.evaluations.glob("*.json"))) >= 2, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    before = done(trials_of(first))
    shutil.rmtree(first.path)
    # Seconds instead of a minute until it is taken for dead.
    monkeypatch.setattr(meeting, "GRACE_S", 1.0)
    monkeypatch.setattr(meeting, "INTERVAL_S", 0.3)
    run = search(experiment, run_dir=second.path)
    trials = trials_of(second)
    assert before.items() <= done(trials).items()
    assert len(done(trials)) == 5
    assert run.rows == undisturbed(experiment, trials, tmp_path / "alone")


@pytest.fixture
def finished_elsewhere(toy_experiment, tmp_path):
    """A finished search that meets in a file which several folders can reach, and its address."""
    url = f"sqlite:///{tmp_path}/shared.db"
    meets = {"search__storage": url, "search__artifacts": str(tmp_path / "artifacts"), "search__trials": 2}
    run = search(toy_experiment(**meets), run_dir=tmp_path / "leader")
    return run, Address(url, "toy", str(tmp_path / "artifacts"))


def test_a_search_that_is_finished_needs_no_help(finished_elsewhere, tmp_path):
    _, address = finished_elsewhere
    helped = help_search(RunFolder(tmp_path / "own"), address)
    assert (helped.trials, helped.closed, helped.led) == (0, True, False)


def test_another_search_does_not_take_the_same_name(finished_elsewhere, toy_experiment, tmp_path):
    run, address = finished_elsewhere
    other = run.experiment.override({"regime.training.lr": 0.5})
    with pytest.raises(RunError, match=r"the study toy is of a search whose regime\.training\.lr differs: .* --study"):
        search(other, run_dir=tmp_path / "other")
    assert search(other.override({"search.study": "second"}), run_dir=tmp_path / "other").rows
    assert address.study == "toy"


def test_a_password_is_kept_in_no_file(toy_experiment, postgres, tmp_path):
    url = postgres.replace("tester@", "tester:s3cret@")
    experiment = toy_experiment(search__storage=url, search__trials=1, search__study="secret")
    run = search(experiment, run_dir=tmp_path / "run")
    kept = yaml.safe_load(run.folder.experiment_file.read_text())["search"]["storage"]
    assert kept == without_password(url) == postgres
    assert not [path for path in run.folder.path.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]


def test_a_worker_that_came_too_early_waits_for_the_search():
    tries, said = [], []

    def help_it():
        tries.append(1)
        if len(tries) == 1:
            raise NoSearch("there is none")
        return Helped(3, closed=True, led=False)

    assert once_begun(help_it, wait_s=600, say=said.append).trials == 3
    assert len(said) == 1


def test_a_worker_waits_no_longer_than_it_was_told_to():
    def help_it():
        raise NoSearch("there is none")

    with pytest.raises(NoSearch, match="there is none"):
        once_begun(help_it, wait_s=0, say=pytest.fail)
