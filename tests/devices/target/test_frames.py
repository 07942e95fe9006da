from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aebnas.devices.target.errors import Refused, in_one_line
from aebnas.devices.target.frames import Answers, Cut, Garbled, Header, read_header, receive, skip


def line(files) -> bytes:
    listed = [{"name": name, "size": len(content)} for name, content in files.items()]
    return json.dumps({"command": "x", "files": listed}).encode() + b"\n"


@given(st.lists(st.dictionaries(st.text(), st.binary(max_size=200), max_size=4), max_size=4))
def test_what_is_sent_arrives(tmp_path_factory, requests):
    folder = tmp_path_factory.mktemp("files")
    stream = io.BytesIO(b"".join(line(files) + b"".join(files.values()) for files in requests))
    for files in requests:
        header = read_header(stream)
        assert header.values["command"] == "x"
        assert {name: path.read_bytes() for name, path in receive(stream, header.sizes, folder).items()} == files
    assert read_header(stream) is None


def test_big_files_arrive_whole(tmp_path):
    content = bytes(range(256)) * 2000
    stream = io.BytesIO(content + b"next")
    assert receive(stream, {"../../etc/passwd": len(content)}, tmp_path)["../../etc/passwd"].read_bytes() == content
    assert [path.parent for path in tmp_path.iterdir()] == [tmp_path]
    assert stream.read() == b"next"


def test_all_is_read_though_nothing_can_be_written(tmp_path):
    stream = io.BytesIO(bytes(200_000) + b"next")
    with pytest.raises(FileNotFoundError):
        receive(stream, {"a": 150_000, "b": 50_000}, tmp_path / "gone")
    assert stream.read() == b"next"


def test_a_cut_input_is_noticed(tmp_path):
    with pytest.raises(Cut):
        receive(io.BytesIO(b"12345"), {"a": 6}, tmp_path)
    with pytest.raises(Cut):
        skip(io.BytesIO(b"12345"), 6)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\n",
        b"[1]\n",
        b"{\n",
        b'{"files": [1]}\n',
        b'{"files": [{"name": 1, "size": 1}]}\n',
        b'{"files": [{"name": "a", "size": 1.5}]}\n',
        b'{"files": [{"name": "a", "size": 1}, {"name": "a", "size": 2}]}\n',
    ],
)
def test_garbage_is_noticed(garbage):
    with pytest.raises(Garbled):
        read_header(io.BytesIO(garbage))


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [(int, 1, True), (int, 2, 2.0), (float, 1, "1"), (float, 0.5, None), (str, "a", 1), (dict, {}, []), (list, [], "")],
)
def test_a_value_has_to_be_of_its_kind(kind, good, bad):
    assert Header({"key": good}, {}).get("key", kind) == good
    with pytest.raises(Refused, match=f"key is .*: it has to be a {kind.__name__}"):
        Header({"key": bad}, {}).get("key", kind)


def test_a_missing_value_has_its_default():
    assert Header({}, {}).get("key", int, 7) == 7


def test_answers_are_lines():
    stream = io.BytesIO()
    answers = Answers(stream)
    answers.event("measured", name="a\nb", latency_ms=0.5)
    answers.refused(Refused("disk", "full"))
    assert [json.loads(text) for text in stream.getvalue().splitlines()] == [
        {"event": "measured", "name": "a\nb", "latency_ms": 0.5},
        {"event": "error", "kind": "disk", "message": "full", "name": None},
    ]


def test_a_long_error_is_cut():
    assert in_one_line(ValueError("a\n  b")) == "a b"
    assert in_one_line(ValueError()) == "ValueError"
    assert in_one_line(ValueError("x" * 600)) == "x" * 500 + " ..."
