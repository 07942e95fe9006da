"""Files by name in artifact stores: a folder, and a bucket of a real (if small) server."""

from __future__ import annotations

import io
import os
import sys
import threading
import time

import pytest
from optuna.storages import InMemoryStorage

from aebnas.errors import InputError, MissingExtraError, RunError, RunFailed
from aebnas.sharing.artifacts import SharedFiles, open_artifacts
from aebnas.sharing.board import Board
from aebnas.sharing.presence import Presence

BIG = os.urandom(9 << 20)  # sent to a bucket in two parts


@pytest.fixture(scope="module")
def bucket():
    """The endpoint of a server with one bucket, and a client of it."""
    server_module = pytest.importorskip("moto.server", reason="moto, the server of S3 in tests, is not installed")
    boto3 = pytest.importorskip("boto3")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="runs")
        yield endpoint, client
        server.stop()


@pytest.fixture(params=["folder", "bucket"])
def where(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path / "store")
    endpoint, _ = request.getfixturevalue("bucket")
    return f"s3://runs/{tmp_path.name}?endpoint_url={endpoint}"


@pytest.fixture
def board():
    return Board(InMemoryStorage(), "search")


@pytest.fixture
def here(board, where, tmp_path):
    with Presence(board, tmp_path / "here") as presence:
        yield SharedFiles(open_artifacts(where), board, presence, "my study/1")


@pytest.fixture
def there(board, where, tmp_path):
    with Presence(board, tmp_path / "there") as presence:
        yield SharedFiles(open_artifacts(where), board, presence, "my study/1")


def stored(where):
    """Return a way to read and to write what is stored under a name, behind the back of SharedFiles."""
    store = open_artifacts(where)

    def read(name):
        with store.open_reader(f"my%20study%2F1/{name}") as reader:
            return reader.read()

    return read, lambda name, content: store.write(f"my%20study%2F1/{name}", io.BytesIO(content))


@pytest.mark.parametrize("content", [b"", b"weights", BIG], ids=["empty", "small", "big"])
def test_what_is_pushed_here_is_pulled_there(here, there, tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    assert not there.has("branches/a.pt")
    assert not there.pull("branches/a.pt", tmp_path / "b.pt")
    here.push("branches/a.pt", tmp_path / "a.pt")
    assert there.has("branches/a.pt")
    assert there.pull("branches/a.pt", tmp_path / "new" / "b.pt")
    assert (tmp_path / "new" / "b.pt").read_bytes() == content


def test_a_second_push_replaces_the_first(here, there, tmp_path):
    for content in (b"one", b"two"):
        (tmp_path / "a").write_bytes(content)
        here.push("a", tmp_path / "a")
    assert there.pull("a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"two"


@pytest.mark.parametrize("damage", ["altered", "cut", "headless", "gone"])
def test_a_damaged_file_counts_as_missing_and_is_removed(here, there, where, tmp_path, caplog, damage):
    (tmp_path / "a").write_bytes(b"weights" * 100)
    here.push("a", tmp_path / "a")
    read, write = stored(where)
    whole = read("a")
    cases = {"altered": whole[:-1] + b"!", "cut": whole[:300], "headless": whole[80:], "gone": b""}
    write("a", cases[damage])
    (tmp_path / "b").write_bytes(b"what was there")
    assert not there.pull("a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"what was there"
    assert "a is damaged" in caplog.text
    assert not here.has("a")
    here.push("a", tmp_path / "a")
    assert there.pull("a", tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a", "b"]


def test_searches_with_other_prefixes_are_apart(here, board, where, tmp_path):
    (tmp_path / "a").write_bytes(b"weights")
    here.push("a", tmp_path / "a")
    with Presence(board, tmp_path / "other") as presence:
        assert not SharedFiles(open_artifacts(where), board, presence, "other").has("a")


def test_one_process_claims_a_file_at_a_time(here, there):
    assert here.claim("branches/a.pt")
    assert not there.claim("branches/a.pt")
    assert there.claim("branches/b.pt")
    here.release("branches/a.pt")
    assert there.claim("branches/a.pt")


def test_what_is_being_read_can_be_replaced(here, there, tmp_path):
    """No reader meets half of a file."""
    stop = threading.Event()

    def push():
        number = 0
        while not stop.is_set():
            (tmp_path / "a").write_bytes(bytes([number % 256]) * (1 << 20))
            here.push("a", tmp_path / "a")
            number += 1

    thread = threading.Thread(target=push)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not there.has("a"):
            assert time.monotonic() < deadline
        for _ in range(20):
            assert there.pull("a", tmp_path / "b")
            assert len(set((tmp_path / "b").read_bytes())) == 1
    finally:
        stop.set()
        thread.join()


def test_a_file_that_is_not_there_or_cannot_be_written_is_told(here, tmp_path):
    with pytest.raises(RunError, match="cannot share"):
        here.push("a", tmp_path / "missing")
    (tmp_path / "a").write_bytes(b"")
    here.push("a", tmp_path / "a")
    with pytest.raises(RunError, match="cannot write"):
        here.pull("a", tmp_path / "a" / "b")


def test_a_reading_that_breaks_off_is_begun_again(board, tmp_path, monkeypatch):
    monkeypatch.setattr("aebnas.sharing.artifacts._PAUSE_S", 0)
    store = open_artifacts(str(tmp_path / "store"))
    with Presence(board, tmp_path) as presence:
        files = SharedFiles(store, board, presence, "s")
        (tmp_path / "a").write_bytes(b"weights")
        files.push("a", tmp_path / "a")
        readings = [Breaking, lambda: store_reader("s/a")]
        store_reader = store.open_reader
        monkeypatch.setattr(store, "open_reader", lambda name: readings.pop(0)())
        assert files.pull("a", tmp_path / "b")
        assert (tmp_path / "b").read_bytes() == b"weights"
        readings += [Breaking] * 5
        with pytest.raises(RunFailed, match=r"the shared file a cannot be read \(connection reset\)"):
            files.pull("a", tmp_path / "b")


class Breaking(io.BytesIO):
    def read(self, size=-1):
        raise ConnectionResetError("connection reset")


def test_addresses_that_name_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for where in ("a", f"file://{tmp_path}/b%20c", "~/d"):
        open_artifacts(where)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b c", "d"]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("gs://bucket", "names gs://, which is not known: write a folder"),
        ("s3://", "names no bucket"),
        ("s3://bucket?region=x", "option region, which is not known"),
        ("s3://key:s3cr3t@bucket/a", "holds credentials"),
    ],
)
def test_a_wrong_address_is_told(where, message):
    with pytest.raises(InputError, match=message) as error:
        open_artifacts(where)
    assert "s3cr3t" not in str(error.value)


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        open_artifacts(str(tmp_path / "a" / "b"))


def test_a_bucket_that_is_not_there_is_told(bucket):
    with pytest.raises(InputError, match="bucket s3://nobody cannot be used"):
        open_artifacts(f"s3://nobody?endpoint_url={bucket[0]}")


def test_a_missing_boto3_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingExtraError, match=r"aebnas\[s3\]"):
        open_artifacts("s3://bucket")


def test_a_server_that_stays_away_is_told(bucket):
    with pytest.raises(RunFailed, match="bucket s3://runs has been away"):
        open_artifacts("s3://runs?endpoint_url=http://127.0.0.1:9", patience_s=0.1)
