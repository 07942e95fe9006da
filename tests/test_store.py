from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from torch import nn

from aebnas.errors import RunError, RunFailed
from aebnas.store import WeightStore, load_state, state_of


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


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_record_is_named(store, kept):
    store.put("key", {"state": {"weight": torch.randn(50, 20)}})
    content = store.path("key").read_bytes()
    store.path("key").write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(RunError, match=r"key\.pt is damaged .*: delete it and run the same search again") as caught:
        store.get("key")
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)  # torch advises to load unsafely


@pytest.mark.parametrize("text", [b"some text that is no archive", b"junk", b"junk" * 99])
def test_a_file_of_something_else_is_named(store, text):
    store.put("key", {})
    store.path("key").write_bytes(text)
    with pytest.raises(RunError, match=r"key\.pt is damaged"):
        store.get("key")
    torch.save([1, 2], store.path("key"))
    with pytest.raises(RunError, match=r"key\.pt is damaged \(no dictionary\)"):
        store.get("key")


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
