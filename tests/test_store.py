from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from aebnas.errors import RunError, RunFailed
from aebnas.store import DamagedFile, RecordStore, WeightStore, load_state, state_of


@pytest.fixture
def store(tmp_path):
    return WeightStore(tmp_path / "branches")


def test_what_is_put_is_got(store):
    record = {"state": {"weight": torch.randn(3, 2)}, "accuracies": [[0.5], [0.75]], "note": "text"}
    assert not store.has("key")
    store.put("key", record)
    assert store.has("key")
    found = store.get("key")
    assert torch.equal(found["state"]["weight"], record["state"]["weight"])
    assert (found["accuracies"], found["note"]) == ([[0.5], [0.75]], "text")


def test_a_record_is_replaced_whole(store):
    store.put("key", {"value": 1})
    store.put("key", {"value": 2})
    assert store.get("key") == {"value": 2}
    assert [path.name for path in store.path("key").parent.iterdir()] == ["key.pt"]


def test_a_write_that_fails_leaves_what_was_there(store, monkeypatch):
    store.put("key", {"value": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunFailed, match=r"key\.pt: No space left on device; free some space"):
        store.put("key", {"value": 2})
    assert store.get("key") == {"value": 1}
    assert [path.name for path in store.path("key").parent.iterdir()] == ["key.pt"]


def test_a_disk_that_fills_up_while_weights_are_written_is_told(store):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    store.put("key", {"value": 1})

    @contextlib.contextmanager
    def full(path):
        yield Path("/dev/full")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="No space left on device"):
        patch.setattr("aebnas.files.atomic_path", full)
        store.put("key", {"state": torch.zeros(1 << 20)})
    assert store.get("key") == {"value": 1}


def test_a_missing_record_is_named(store):
    with pytest.raises(RunError, match=r"key\.pt is missing: run the same search again"):
        store.get("key")


def is_put_aside(store, key="key"):
    damaged = store.path(key).with_name(f"{key}.pt.damaged")
    return damaged.exists() and not store.has(key)


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.9])
def test_a_truncated_record_is_named_and_put_aside(store, kept):
    store.put("key", {"state": {"weight": torch.randn(50, 20)}})
    content = store.path("key").read_bytes()
    store.path("key").write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(DamagedFile, match=r"key\.pt is damaged .*: put aside as key\.pt\.damaged") as caught:
        store.get("key")
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)  # torch advises to load unsafely
    assert is_put_aside(store)
    store.put("key", {"value": 2})
    assert store.get("key") == {"value": 2}


@pytest.mark.parametrize("place", [0.0, 0.2, 0.4, 0.6, 0.8, 0.99])
def test_one_flipped_bit_is_seen(store, place):
    """Also where it is one of a weight, of which the archive itself knows nothing."""
    store.put("key", {"state": {"weight": torch.randn(500, 20)}})
    content = bytearray(store.path("key").read_bytes())
    content[int(place * (len(content) - len(SEAL)))] ^= 4
    store.path("key").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"key\.pt is damaged"):
        store.get("key")
    assert is_put_aside(store)


SEAL = b"\naebnas sha256 " + b"0" * 64


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-100], lambda c: b"junk", lambda c: b"", lambda c: c[:90] + b"?" + c[91:]]
)
def test_a_damaged_record_is_none_and_is_put_aside(store, damage, caplog):
    """Whoever asks whether it is there makes it again."""
    store.put("key", {"state": {"weight": torch.randn(50, 20)}})
    assert store.has("key")
    store.path("key").write_bytes(damage(store.path("key").read_bytes()))
    assert not store.has("key")
    assert "key.pt is damaged (cut short, or its checksum differs): put aside as key.pt.damaged" in caplog.text
    assert is_put_aside(store)


def test_a_file_is_summed_up_once_until_it_changes(store, monkeypatch):
    store.put("key", {"value": 1})
    assert store.has("key")
    monkeypatch.setattr(hashlib, "sha256", None)
    assert store.has("key")
    assert not store.has("another")


def test_a_record_ends_in_its_sum_which_torch_does_not_mind(store):
    store.put("key", {"value": 3})
    content = store.path("key").read_bytes()
    assert content[-64:].decode() == hashlib.sha256(content[: -len(SEAL)]).hexdigest()
    assert torch.load(store.path("key"), weights_only=True) == {"value": 3}


def test_records_of_older_runs_have_no_sum_and_are_read(store):
    store.put("key", {"value": 3})
    store.path("key").write_bytes(store.path("key").read_bytes()[: -len(SEAL)])
    assert store.get("key") == {"value": 3}
    torch.save({"value": 4}, store.path("key"))
    assert store.get("key") == {"value": 4}


@pytest.mark.parametrize("text", [b"some text that is no archive", b"junk", b"junk" * 99, SEAL])
def test_a_file_of_something_else_is_named(store, text):
    store.put("key", {})
    store.path("key").write_bytes(text)
    with pytest.raises(DamagedFile, match=r"key\.pt is damaged"):
        store.get("key")
    torch.save([1, 2], store.path("key"))
    with pytest.raises(DamagedFile, match=r"key\.pt is damaged \(no dictionary\)"):
        store.get("key")


def test_a_file_that_another_process_has_made_anew_is_not_put_aside(store, monkeypatch):
    store.put("key", {"value": 1})

    def load(*_, **__):
        store.put("key", {"value": 2})
        raise EOFError

    with monkeypatch.context() as patch, pytest.raises(DamagedFile):
        patch.setattr(torch, "load", load)
        store.get("key")
    assert store.get("key") == {"value": 2}


def test_the_keys_are_those_of_whole_files(store):
    assert store.keys() == []
    for key in ("b", "a"):
        store.put(key, {})
    store.path("x").with_name(".x.pt.123.tmp").touch()
    store.path("x").with_name("x.pt.damaged").touch()
    with store.try_claim("c"):
        assert store.keys() == ["a", "b"]


class Malicious:
    def __reduce__(self):
        return (pytest.fail, ("code of a weights file was run",))


def test_a_record_runs_no_code(store):
    store.put("key", {})
    torch.save({"state": Malicious()}, store.path("key"))
    with pytest.raises(RunError, match=r"key\.pt is damaged"):
        store.get("key")


def test_weights_that_do_not_fit_are_named(store):
    with pytest.raises(RunError, match=r"key\.pt does not fit the network .*: delete it"):
        load_state(nn.Linear(2, 2), nn.Linear(3, 2).state_dict(), store.path("key"))
    with pytest.raises(RunError, match=r"does not fit the network"):
        load_state(nn.Linear(2, 2), {}, store.path("key"))


def test_states_are_copies():
    branch = nn.Linear(2, 2)
    state = state_of(branch)
    before = branch.weight.detach().clone()
    with torch.no_grad():
        branch.weight.add_(1.0)
    assert torch.equal(state["weight"], before)
    assert not state["weight"].requires_grad


# records


@pytest.fixture
def records(tmp_path):
    return RecordStore(tmp_path / "evaluations")


RECORD = {"curve": [[0.1, 1e-17], None], "note": "é", "costs": {"macs": 1 / 3}}


def test_a_record_comes_back_without_its_sum(records):
    assert records.get("a") is None
    records.put("a", {**RECORD, "pair": (1, 2)})
    assert records.get("a") == {**RECORD, "pair": [1, 2]}


ALTERED = {
    "cut": lambda text: text[:-20],
    "empty": lambda text: "",
    "a list": lambda text: "[1, 2]",
    "no text": lambda text: "\x00\x01",
    "a digit": lambda text: text.replace("0.1", "0.2"),
    "a key": lambda text: text.replace("note", "mote"),
    "the sum": lambda text: text.replace('"sha256": "', '"sha256": "0'),
}


@pytest.mark.parametrize("how", ALTERED)
def test_an_altered_record_counts_as_none_and_is_put_aside(records, how, caplog):
    records.put("a", RECORD)
    text = records.path("a").read_text()
    assert ALTERED[how](text) != text
    records.path("a").write_text(ALTERED[how](text))
    with caplog.at_level(logging.WARNING):
        assert records.get("a") is None
    assert "a.json is damaged (" in caplog.text
    assert [path.name for path in records.path("a").parent.iterdir()] == ["a.json.damaged"]
    records.put("a", RECORD)
    assert records.get("a") == RECORD


def test_a_record_may_be_laid_out_anew_and_one_of_an_older_run_has_no_sum(records):
    records.put("a", RECORD)
    stored = json.loads(records.path("a").read_text())
    records.path("a").write_text(json.dumps(dict(reversed(stored.items()))))
    assert records.get("a") == RECORD
    records.path("a").write_text(json.dumps(RECORD))
    assert records.get("a") == RECORD


# machines


class OtherDisk:
    """A remote that is a folder."""

    def __init__(self, folder):
        self.folder, self.claims = folder, set()

    def has(self, name):
        return (self.folder / name).exists()

    def pull(self, name, path):
        if not self.has(name):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.folder / name, path)
        return True

    def push(self, name, path):
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, self.folder / name)

    def claim(self, name):
        if name in self.claims:
            return False
        self.claims.add(name)
        return True

    def release(self, name):
        self.claims.remove(name)


@pytest.fixture
def machines(tmp_path):
    """Two folders that share nothing but a remote."""

    def make(kind, name):
        remote = OtherDisk(tmp_path / "remote")
        return [kind(tmp_path / machine / name, remote) for machine in ("here", "there")], remote

    return make


@pytest.mark.parametrize(("kind", "name"), [(WeightStore, "branches/a.pt"), (RecordStore, "evaluations/a.json")])
def test_what_one_machine_has_made_another_finds(machines, kind, name):
    (here, there), remote = machines(kind, name.split("/")[0])
    assert not there.has("a")
    here.put("a", {"value": 1})
    assert remote.has(name)
    assert there.has("a")
    assert there.path("a").exists()
    assert there.get("a") == {"value": 1}


@pytest.mark.parametrize(("kind", "name"), [(WeightStore, "branches/a.pt"), (RecordStore, "evaluations/a.json")])
def test_what_a_killed_process_did_not_send_is_sent_by_the_next(machines, kind, name):
    (here, there), remote = machines(kind, name.split("/")[0])
    here.put("a", {"value": 1})
    (remote.folder / name).unlink()
    assert kind(here.path("a").parent, remote).has("a")
    assert there.get("a") == {"value": 1}


def test_a_remote_is_asked_once_for_what_is_here(machines, monkeypatch):
    (here, _), remote = machines(WeightStore, "branches")
    here.put("a", {"value": 1})
    monkeypatch.setattr(remote, "has", None)
    monkeypatch.setattr(remote, "push", None)
    assert here.has("a")


@pytest.mark.parametrize("kind", [WeightStore, RecordStore])
def test_what_is_damaged_here_comes_from_there(machines, kind, caplog):
    (here, there), _ = machines(kind, "folder")
    here.put("a", {"value": 1})
    assert there.get("a") == {"value": 1}
    for ask in (there.get, there.has):
        there.path("a").write_bytes(b"junk")
        assert ask("a")
        assert there.get("a") == {"value": 1}
        assert "is damaged" in caplog.text
        caplog.clear()


def test_what_is_damaged_everywhere_is_made_again(machines):
    (here, there), remote = machines(WeightStore, "branches")
    here.put("a", {})
    (remote.folder / "branches" / "a.pt").write_bytes(b"junk")
    with pytest.raises(DamagedFile):
        there.get("a")
    assert not there.has("a")


def test_one_process_makes_a_record(store):
    with store.try_claim("key") as claim:
        assert claim is not None
        assert store.try_claim("key") is None
        assert WeightStore(store.path("key").parent).try_claim("key") is None
        store.try_claim("another").release()
    with store.try_claim("key"):
        pass


def test_one_machine_makes_a_record(machines):
    (here, there), remote = machines(WeightStore, "branches")
    with here.try_claim("key"):
        assert remote.claims == {"branches/key.pt"}
        assert there.try_claim("key") is None
    assert remote.claims == set()
    claim = there.try_claim("key")
    assert here.try_claim("key") is None
    claim.release()
    claim.release()
    here.try_claim("key").release()


def test_a_remote_that_fails_leaves_nothing_claimed(machines, monkeypatch):
    (here, _), remote = machines(WeightStore, "branches")
    with monkeypatch.context() as patch, pytest.raises(RunFailed):
        patch.setattr(remote, "claim", lambda name: (_ for _ in ()).throw(RunFailed("away")))
        here.try_claim("key")
    here.try_claim("key").release()
