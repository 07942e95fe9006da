from __future__ import annotations

import errno
import json
import os
import re
import stat
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, field_validator

from aebnas import errors, resources
from aebnas.errors import (
    AebnasError,
    DeviceError,
    InputError,
    MeasurementError,
    MissingExtraError,
    RunError,
    RunFailed,
    SpaceError,
    TrainingError,
)
from aebnas.files import (
    atomic_path,
    canonical_json,
    digest,
    read_json,
    write_atomic,
    write_bytes,
    write_json,
    write_text,
)
from aebnas.registry import Registry, unknown_name
from aebnas.resources import resource_folder, resource_names
from aebnas.settings import Settings, parse_settings, read_yaml

# errors


def test_what_the_user_can_cause_is_told_from_what_fails():
    own = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AebnasError)}
    failures = {AebnasError, RunFailed, TrainingError, MeasurementError, DeviceError}
    assert {kind for kind in own if not issubclass(kind, InputError)} == failures
    assert all(kind.__doc__ for kind in own if kind is not MissingExtraError)


def test_a_missing_extra_says_how_to_get_it():
    assert str(MissingExtraError("Pillow", "images")) == (
        "Pillow is not installed: run pip install 'aebnas[images]' to use this"
    )


# files

WRITERS = {
    "bytes": lambda path: write_bytes(path, b"new"),
    "text": lambda path: write_text(path, "new"),
    "json": lambda path: write_json(path, "new"),
    "atomic": lambda path: write_atomic(path, lambda file: file.write(b"new")),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_writing_makes_folders_and_leaves_nothing_beside(writer, tmp_path):
    path = tmp_path / "a" / "b" / "file"
    WRITERS[writer](path)
    assert path.read_bytes() == (b'"new"\n' if writer == "json" else b"new")
    WRITERS[writer](path)
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


class Killed(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Killed])
def test_a_write_that_breaks_off_leaves_the_old_file(error, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def half(file):
        file.write(b"ne")
        raise error

    with pytest.raises(error):
        write_atomic(path, half)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, RunFailed),
        (errno.EDQUOT, RunFailed),
        (errno.EIO, RunFailed),
        (errno.EACCES, RunError),
        (errno.EROFS, RunError),
    ],
)
def test_a_disk_that_takes_nothing_is_a_sentence_and_leaves_the_old_file(tmp_path, number, kind):
    """A full disk is a failure, a wrong folder is wrong input: they have different exit codes."""
    path = tmp_path / "file"
    path.write_text("old")

    def full(file):
        raise OSError(number, os.strerror(number))

    told = rf"cannot write .*file: {re.escape(os.strerror(number))}; free some space or choose"
    with pytest.raises(AebnasError, match=told) as caught:
        write_atomic(path, full)
    assert caught.type is kind
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*below: "):
        write_text(tmp_path / "file" / "below", "new")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match=r"cannot write .*folder: "):
        write_text(tmp_path / "folder", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_the_file_has_its_name_only_when_all_is_written(tmp_path):
    path = tmp_path / "file"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent  # a rename across disks would copy
        assert not path.exists()
    assert path.read_text() == "new"


def test_json_that_has_no_spelling_is_refused_before_the_file_is_touched(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": [1, None]})
    for value in (float("nan"), float("inf"), object()):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, value)
    assert read_json(path) == {"a": [1, None]}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(value=JSON)
def test_json_comes_back(value, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round-trip.json"
    write_json(path, value)
    assert read_json(path) == value
    assert json.loads(canonical_json(value)) == value


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{'a': 1}", b'{"a": 1} x'])
def test_damaged_json_is_named(content, tmp_path):
    path = tmp_path / "front.json"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"front\.json is damaged \(.*\): delete it and write it again"):
        read_json(path)


def test_missing_json_is_named(tmp_path):
    with pytest.raises(RunError, match=r"front\.json is missing: is this the folder of a finished run"):
        read_json(tmp_path / "front.json")
    with pytest.raises(RunError, match="is damaged"):
        read_json(tmp_path)


def test_canonical_json_does_not_depend_on_the_order_of_keys():
    assert canonical_json({"b": [1, 2.5], "a": {"d": None, "c": "é"}}) == r'{"a":{"c":"\u00e9","d":null},"b":[1,2.5]}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


PIECES = st.lists(st.binary(max_size=6) | st.text(max_size=6), max_size=4)


@settings(max_examples=100, deadline=None)
@given(PIECES, PIECES)
def test_digests_are_equal_exactly_for_equal_parts(one, other):
    def encoded(parts):
        return [part.encode() if isinstance(part, str) else part for part in parts]

    assert (digest(*one) == digest(*other)) == (encoded(one) == encoded(other))


def test_digests_keep_parts_apart_and_never_change():
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("abc", "")}) == 4
    # SHA-256 of nothing; stored keys must stay valid.
    assert digest() == "e3b0c44298fc1c14"
    assert re.fullmatch("[0-9a-f]{16}", digest("a"))


# registry


def test_a_registry_finds_what_was_added_under_its_name():
    shapes: Registry[type] = Registry("shape", SpaceError)

    @shapes.add("square")
    class Square:
        pass

    shapes.add("circle")(int)
    assert shapes["square"] is Square
    assert list(shapes) == ["square", "circle"]
    assert "circle" in shapes
    assert "oval" not in shapes


def test_an_unknown_name_is_an_error_of_the_room_with_the_nearest_name():
    shapes: Registry[int] = Registry("shape", SpaceError)
    shapes.add("square")(1)
    shapes.add("circle")(2)
    with pytest.raises(SpaceError) as caught:
        shapes["squar"]
    assert str(caught.value) == "there is no shape 'squar': did you mean 'square'? known are square, circle"
    with pytest.raises(SpaceError) as caught:
        shapes["xyz"]
    assert str(caught.value) == "there is no shape 'xyz': known are square, circle"
    with pytest.raises(InputError):
        Registry("colour")["red"]


def test_a_name_is_given_once():
    shapes: Registry[int] = Registry("shape")
    shapes.add("square")(1)
    with pytest.raises(ValueError, match="shape 'square' is registered twice"):
        shapes.add("square")(2)
    assert shapes["square"] == 1


def test_names_of_other_types_are_shown_as_they_are():
    assert unknown_name("key", 3, ["30", "x"]).startswith("there is no key 3: ")


# settings


class Inner(Settings):
    width: int = Field(default=1, ge=1)
    height: int = 1


class Outer(Settings):
    name: str
    inner: Inner = Inner()
    perhaps: Inner | None = None
    tags: tuple[str, ...] = ()
    share: float = 0.5

    @field_validator("share")
    @classmethod
    def _a_half(cls, share: float) -> float:
        if share > 0.5:
            raise ValueError("must be at most a half")
        return share


def parse(**values):
    return parse_settings(Outer, values, source="file.yaml", error=SpaceError)


def test_good_settings_are_typed_and_frozen():
    outer = parse(name="a", inner={"width": 3}, tags=["x"])
    assert outer == Outer(name="a", inner=Inner(width=3), tags=("x",))
    with pytest.raises(ValueError, match="frozen"):
        outer.name = "b"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "file.yaml: name: is missing"),
        ({"name": 3}, "file.yaml: name: must be text, in quotes if it looks like a number (got 3)"),
        (
            {"name": "a", "iner": {}},
            "file.yaml: there is no key 'iner': did you mean 'inner'? known are name, inner, perhaps, tags, share",
        ),
        (
            {"name": "a", "inner": {"widht": 2}},
            "file.yaml: there is no key 'inner.widht': did you mean 'inner.width'? known are inner.width, inner.height",
        ),
        (
            {"name": "a", "perhaps": {"widht": 2}},
            "file.yaml: there is no key 'perhaps.widht': did you mean 'perhaps.width'? "
            "known are perhaps.width, perhaps.height",
        ),
        (
            {"name": "a", "inner": {"width": 0}},
            "file.yaml: inner.width: Input should be greater than or equal to 1 (got 0)",
        ),
        (
            {"name": "a", "tags": ["x", 1]},
            "file.yaml: tags.1: must be text, in quotes if it looks like a number (got 1)",
        ),
        ({"name": "a", "share": 0.75}, "file.yaml: share: must be at most a half (got 0.75)"),
    ],
)
def test_wrong_settings_are_one_sentence_that_names_the_key(values, sentence):
    with pytest.raises(SpaceError) as caught:
        parse(**values)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("values", [None, [], "a", 3])
def test_settings_must_be_a_mapping(values):
    with pytest.raises(SpaceError, match=r"file\.yaml must hold keys and values, not "):
        parse_settings(Outer, values, source="file.yaml", error=SpaceError)


def test_keys_must_be_text():
    with pytest.raises(SpaceError, match=r"file\.yaml: .*3"):
        parse_settings(Outer, {"name": "a", 3: 4}, source="file.yaml", error=SpaceError)


def test_defaults_are_checked_too():
    class Wrong(Settings):
        width: int = Field(default=0, ge=1)

    with pytest.raises(InputError, match="width"):
        parse_settings(Wrong, {}, source="x")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a: [1\nb: 2", r"space\.yaml is not valid YAML at line 2, column 2: "),
        (b"a: 1\n\tb: 2", r"space\.yaml is not valid YAML at line 2"),
        (b"a: !!python/object:os.system x", r"space\.yaml is not valid YAML at line 1"),
        (b"a: 1\n--- \nb: 2", r"space\.yaml is not valid YAML at line 2"),
        (b"a: \x00", r"space\.yaml is not valid YAML"),
        (b"a: 2024-13-45", r"space\.yaml is not valid YAML: month must be in 1\.\.12"),
        (b"a: \xff", r"cannot read .*space\.yaml: "),
    ],
)
def test_broken_yaml_is_one_sentence_that_names_file_and_line(content, sentence, tmp_path):
    path = tmp_path / "space.yaml"
    path.write_bytes(content)
    with pytest.raises(SpaceError, match=sentence) as caught:
        read_yaml(path, error=SpaceError)
    assert "\n" not in str(caught.value)


def test_missing_yaml_is_named(tmp_path):
    with pytest.raises(SpaceError, match=r"space\.yaml does not exist: check the path"):
        read_yaml(tmp_path / "space.yaml", error=SpaceError)
    with pytest.raises(InputError, match="cannot read"):
        read_yaml(tmp_path)


def test_good_yaml_is_read(tmp_path):
    (tmp_path / "a.yaml").write_text("a: [1, é]\n", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == {"a": [1, "é"]}


# resources


@pytest.mark.parametrize("folder", ["search_spaces", "hardware_profiles", "experiments"])
def test_what_ships_with_the_package_is_found(folder):
    names = resource_names(folder)
    assert names == sorted(names)
    assert names
    for name in names:
        assert isinstance(yaml.safe_load((resource_folder(folder) / f"{name}.yaml").read_text()), dict)


def test_an_installed_package_has_its_resources_inside(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "aebnas"
    (package / "_resources" / "search_spaces").mkdir(parents=True)
    (package / "_resources" / "search_spaces" / "own.yaml").write_text("")
    (tmp_path / "site-packages" / "experiments").mkdir()
    monkeypatch.setattr(resources, "__file__", str(package / "resources.py"))
    assert resource_folder("search_spaces") == package / "_resources" / "search_spaces"
    assert resource_names("search_spaces") == ["own"]
    assert resource_folder("experiments") == Path(os.fspath(tmp_path)) / "site-packages" / "experiments"
