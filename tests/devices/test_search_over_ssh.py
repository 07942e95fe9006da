"""A whole search for a device behind a real ssh connection, and one whose connection breaks."""

from __future__ import annotations

import threading

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from aebnas.devices.client import Client
from aebnas.errors import DeviceError
from aebnas.searching.search import search

QUICK, SLOW = {"precision_pct": 10, "time_limit_s": 5}, {"precision_pct": 0.001, "time_limit_s": 2}


@pytest.fixture
def over_ssh(ssh_server, target_python, tmp_path, toy_experiment, monkeypatch):
    """Make an experiment whose device is behind ssh, and of which nothing is remembered."""
    monkeypatch.setenv("AEBNAS_CACHE_DIR", str(tmp_path / "cache"))

    def make(protocol):
        path = tmp_path / "board.yaml"
        profile = ssh_server.profile(target_python, protocol=protocol)
        path.write_text(yaml.safe_dump(profile.model_dump(mode="json")))
        return toy_experiment(device=str(path), search__objectives=["accuracy", "latency_ms"], search__trials=3)

    return make


def test_a_search_measures_on_the_target(over_ssh, tmp_path):
    run = search(over_ssh(QUICK), run_dir=tmp_path / "run")
    for row in run.rows:
        assert row["latency_ms_mean"] > 0
        if row["finalist"] or row["static"]:
            assert row["latency_ms_measured"] > 0
            assert row["speedup_measured"] > 0
    assert run.summary()["latency"]["overhead"]["fp32"]["paths"] > 0
    assert list((tmp_path / "run" / "latency").glob("*.json"))


def test_a_search_whose_connection_breaks_stops_and_goes_on(over_ssh, ssh_server, tmp_path, monkeypatch):
    ask, calls = Client.ask, []

    def broken(self, command, *given, **options):
        calls.append(command)
        if calls.count("measure") == 2 and command == "measure":
            # It takes seconds, for it cannot become as precise as it is told to.
            threading.Timer(0.5, ssh_server.cut_connections).start()
        return ask(self, command, *given, **options)

    slow = over_ssh(SLOW)
    with monkeypatch.context() as patch:
        patch.setattr(Client, "ask", broken)
        with pytest.raises(DeviceError, match="lost half-way: what was measured so far is kept, and the same command"):
            search(slow, run_dir=tmp_path / "run")
    run = search(over_ssh(QUICK), run_dir=tmp_path / "run")
    assert run.summary()["failed"] == 0
    study = optuna.load_study(study_name="aebnas", storage=f"sqlite:///{run.folder.study_file}")
    assert sum(trial.state == TrialState.COMPLETE for trial in study.trials) == 3
