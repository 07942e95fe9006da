"""The verb `aebnas dashboard`."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import optuna
import pytest

from aebnas import cli
from aebnas.report.dashboard import open_dashboard
from aebnas.searching.study import Address

pytest.importorskip("optuna_dashboard", reason="the extra dashboard is not installed")


def fetch(url: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(url, method=method, data=b"{}" if method != "GET" else None)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def served(copied):
    """The dashboard of a finished search, in a thread; its address."""
    shown = open_dashboard(copied.folder, copied.experiment, host="127.0.0.1", port=0, say=print)
    thread = threading.Thread(target=shown.serve, daemon=True)
    thread.start()
    yield shown.url
    shown.server.shutdown()
    thread.join(timeout=10)


def root(url: str) -> str:
    return url.partition("/dashboard/")[0]


def test_it_shows_the_study_alone_with_names_for_its_objectives(served):
    status, page = fetch(served)
    assert status == 200 and "<html" in page
    status, found = fetch(f"{root(served)}/api/studies")
    (study,) = json.loads(found)["study_summaries"]
    assert status == 200 and study["study_name"] == "aebnas"
    status, detail = fetch(f"{root(served)}/api/studies/{study['study_id']}")
    assert status == 200 and json.loads(detail)["objective_names"] == ["accuracy", "macs"]
    assert len(json.loads(detail)["trials"]) >= 4


def test_it_shows_what_a_search_adds_meanwhile(served, copied):
    """And keeps nobody from adding it."""
    status, _ = fetch(f"{root(served)}/api/studies")
    study = optuna.load_study(study_name="aebnas", storage=f"sqlite:///{copied.folder.study_file}")
    before = len(study.get_trials())
    study.add_trial(optuna.trial.create_trial(values=[0.5, 1000.0]))
    detail = json.loads(fetch(f"{root(served)}/api/studies/{served.rpartition('/')[2]}")[1])
    assert status == 200 and len(detail["trials"]) == before + 1


def test_it_changes_nothing(served, copied):
    before = copied.folder.study_file.read_bytes()
    study = served.rpartition("/")[2]
    status, answer = fetch(f"{root(served)}/api/studies/{study}", "DELETE")
    assert status == 405 and "only reads" in answer
    assert fetch(f"{root(served)}/api/studies", "POST")[0] == 405
    assert fetch(f"{root(served)}/api/studies/{study}/note", "PUT")[0] == 405
    assert fetch(f"{root(served)}/api/studies/{study}")[0] == 200
    assert copied.folder.study_file.read_bytes() == before


def test_a_study_without_names_is_shown_with_them(copied):
    """As searches left it before they named their objectives."""
    with sqlite3.connect(copied.folder.study_file) as database:
        assert database.execute("DELETE FROM study_system_attributes WHERE key = 'study:metric_names'").rowcount == 1
    shown = open_dashboard(copied.folder, copied.experiment, host="127.0.0.1", port=0, say=print)
    thread = threading.Thread(target=shown.serve, daemon=True)
    thread.start()
    detail = json.loads(fetch(f"{root(shown.url)}/api/studies/{shown.url.rpartition('/')[2]}")[1])
    shown.server.shutdown()
    assert detail["objective_names"] == ["accuracy", "macs"]


def test_a_study_in_a_database_is_shown_too(copied, tmp_path):
    """The same study under the URL of a storage, as searches with search.storage keep it."""
    elsewhere = tmp_path / "elsewhere.db"
    with sqlite3.connect(copied.folder.study_file) as here, sqlite3.connect(elsewhere) as there:
        here.backup(there)
    experiment = copied.experiment.override({"search.storage": f"sqlite:///{elsewhere}", "search.study": "aebnas"})
    assert Address.of(copied.folder, experiment).file == elsewhere
    shown = open_dashboard(copied.folder, experiment, host="127.0.0.1", port=0, say=print)
    shown.server.server_close()
    assert "/dashboard/studies/" in shown.url


def test_ctrl_c_ends_it(copied):
    process = subprocess.Popen(
        [sys.executable, "-m", "aebnas.cli", "dashboard", str(copied.folder.path), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "160"},
    )
    line = process.stdout.readline()
    url = re.search(r"http://\S+", line)[0]
    status, found = fetch(f"{root(url)}/api/studies")
    process.send_signal(signal.SIGINT)
    printed, wrong = process.communicate(timeout=60)
    assert status == 200 and len(json.loads(found)["study_summaries"]) == 1
    assert process.returncode == 0 and "stopped" in printed and "Traceback" not in wrong


def refused(capsys, *arguments: str) -> tuple[int, str]:
    code = cli.main(["dashboard", *arguments])
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return code, " ".join(message.split())


def test_what_cannot_be_shown_is_one_sentence(copied, tmp_path, capsys, monkeypatch):
    assert refused(capsys, str(tmp_path / "nowhere"))[1].endswith("give the folder that `aebnas search` wrote")
    run = str(copied.folder.path)
    taken = open_dashboard(copied.folder, copied.experiment, host="127.0.0.1", port=0, say=print).server
    code, message = refused(capsys, run, "--port", str(taken.server_port))
    taken.server_close()
    assert code == 2 and "is taken: choose another with --port" in message
    copied.folder.study_file.unlink()
    code, message = refused(capsys, run)
    assert code == 2 and "study.db is missing: the search has not begun its trials yet" in message
    monkeypatch.setitem(sys.modules, "optuna_dashboard._app", None)
    code, message = refused(capsys, run)
    assert code == 2 and "pip install 'aebnas[dashboard]'" in message
