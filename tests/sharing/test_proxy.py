"""Optuna's gRPC proxy in front of a database: the same study, also when the proxy is killed."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import optuna
import pytest
from optuna.samplers import RandomSampler

from aebnas.errors import RunFailed
from aebnas.sharing.board import Board
from aebnas.sharing.lost import Returns, mark
from aebnas.sharing.presence import Presence
from aebnas.sharing.storage import open_storage

pytest.importorskip("grpc", reason="grpcio (extra grpc) is not installed")

SERVER = """
import sys, warnings
warnings.simplefilter("ignore")
from optuna.storages import get_storage, run_grpc_proxy_server
run_grpc_proxy_server(get_storage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
"""


class Proxy:
    def __init__(self, url):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.inner, self.url = url, f"grpc://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        self.process = subprocess.Popen([sys.executable, "-c", SERVER, self.inner, str(self.port)])
        deadline = time.monotonic() + 120
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", self.port)):
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(params=["sqlite", "postgres"])
def proxy(request, tmp_path):
    if request.param == "postgres":
        inner = request.getfixturevalue("postgres").replace("postgresql:", "postgresql+psycopg:")
    else:
        inner = f"sqlite:///{tmp_path}/study.db"
    server = Proxy(inner)
    yield server
    server.kill()


def test_a_study_behind_a_proxy_is_used_as_any_other_and_outlives_the_proxy(proxy, tmp_path):
    storage = open_storage(proxy.url, say=print)
    study = optuna.create_study(
        storage=storage, study_name="s", directions=["maximize", "minimize"], sampler=RandomSampler()
    )
    board = Board(storage, "s")
    with Presence(board, tmp_path, interval_s=0.1) as presence:
        returns = Returns(board, presence)
        study.enqueue_trial({"x": 0.25})
        for number in range(4):
            trial = study.ask()
            mark(trial, presence)
            if number == 2:
                proxy.kill()
                proxy.start()
            x = trial.suggest_float("x", 0, 1)
            trial.set_user_attr("note", x)
            study.tell(trial, (x, 1 - x))
        lost = study.ask()
        lost.set_user_attr("worker", "dead-1-a")
        x = lost.suggest_float("x", 0, 1)
        assert returns.give_back(study) == 1
        assert study.ask().suggest_float("x", 0, 1) == x
    trials = optuna.load_study(storage=open_storage(proxy.url, say=print), study_name="s").trials
    assert [trial.state.name for trial in trials] == [*["COMPLETE"] * 4, "FAIL", "RUNNING"]
    assert trials[0].params == {"x": 0.25}
    assert trials[2].values == [trials[2].params["x"], 1 - trials[2].params["x"]]


def test_a_proxy_whose_database_is_away_is_waited_for(postgres, postgres_server):
    proxy = Proxy(postgres.replace("postgresql:", "postgresql+psycopg:"))
    try:
        board = Board(open_storage(proxy.url, say=print), "s")
        board.put("a", 1)
        postgres_server.kill()
        postgres_server.start()
        assert board.get("a") == 1  # over a connection that broke
        postgres_server.kill()
        with pytest.raises(RunFailed, match=r"the storage grpc://127.0.0.1:\d+ has been away"):
            Board(open_storage(proxy.url, say=print, patience_s=0.5), "s")
    finally:
        proxy.kill()


def test_a_proxy_that_is_not_there_is_told():
    with pytest.raises(RunFailed, match=r"the storage grpc://127.0.0.1:9 has been away for 0 s"):
        open_storage("grpc://127.0.0.1:9", say=print, patience_s=0.1)
