"""A run folder belongs to one experiment and to one process at a time."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from aebnas.devices.profile import HardwareProfile, Limits, SshConnection, load_profile
from aebnas.errors import RunError
from aebnas.experiment import Experiment
from aebnas.run_folder import RunFolder
from aebnas.spaces.definition import SpaceDefinition, load_space


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def test_a_folder_is_claimed_and_remembers_its_experiment(folder, start):
    with pytest.raises(RunError, match=r"run holds no run: give the folder that `aebnas search` wrote"):
        folder.experiment()
    experiment = Experiment(seed=3)
    start(folder, experiment)
    assert folder.experiment() == experiment


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 4),
        ("data.validation", 0.3),
        ("backbone.options", {"depth": 8}),
        ("backbone_training", {"epochs": 1}),
        ("backbone_training.epochs", 9),
        ("regime.training.lr", 0.5),
        ("search.objectives", ["accuracy", "macs"]),
        ("search.target", {"value": 1.0}),
        ("device", "raspberry-pi-4"),
    ],
)
def test_another_experiment_is_refused_by_the_key_that_differs(folder, start, key, value):
    base = Experiment()
    if key == "backbone_training":
        base = Experiment(backbone_training=None)
    start(folder, base)
    before = folder.experiment_file.read_text()
    with pytest.raises(RunError, match=rf"holds a run whose {key}[\w.]* differs: choose another folder"):
        start(folder, base.override({key: value}))
    assert folder.experiment_file.read_text() == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("search.trials", 99),
        ("search.timeout", 5.0),
        ("search.finalists", 2),
        ("search.accuracy_drop", 0.02),
        # Its default has changed since the first version, whose runs go on.
        ("search.starts", True),
        ("data.path", Path("/elsewhere/data.npz")),
        ("data.data_dir", Path("/elsewhere")),
        ("data.ram_gib", 0.5),
        ("backbone.checkpoint", Path("/elsewhere/weights.pt")),
        ("cache_gib", 1.0),
        ("accelerator", "cpu"),
        ("name", "another"),
    ],
)
def test_what_says_how_long_to_search_or_where_files_lie_may_change(folder, start, key, value):
    start(folder, Experiment())
    changed = Experiment().override({key: value})
    start(folder, changed)
    assert folder.experiment() == changed


SPACE = {"layers": {"one": ["relu"], "two": ["relu", "relu"]}, "heads": {"pooled": "pooled-linear"}}


@pytest.fixture
def resumed(folder):
    """Claim the folder, and again with the space and the profile edited."""

    def make(space=None, profile=None):
        before = HardwareProfile(name="mine", description="d", connection="local")
        folder.start(Experiment(), SpaceDefinition(**SPACE), before)
        folder.start(Experiment(), SpaceDefinition(**SPACE | (space or {})), before.model_copy(update=profile or {}))

    return make


@pytest.mark.parametrize(
    ("edit", "key"),
    [
        ({"slots": 3}, "space.slots"),
        ({"max_exits": 2}, "space.max_exits"),
        ({"layers": {**SPACE["layers"], "three": []}}, "space.layers.three"),
        ({"layers": {"one": ["relu"]}}, "space.layers.two"),
        ({"layers": {"one": ["relu"], "two": ["relu"]}}, "space.layers.two"),
        ({"heads": {"pooled": {"kind": "grid-linear", "size": 2}}}, "space.heads.pooled"),
        ({"starts": [["one"]]}, "space.starts"),
    ],
)
def test_an_edited_space_is_refused_by_the_key_that_differs(resumed, folder, edit, key):
    with pytest.raises(RunError, match=rf"holds a run whose {key} differs: choose another folder"):
        resumed(space=edit)
    assert folder.space() == SpaceDefinition(**SPACE)


@pytest.mark.parametrize(
    ("edit", "key"),
    [
        ({"threads": 2}, "device.threads"),
        ({"provider": "CUDAExecutionProvider"}, "device.provider"),
        ({"provider_options": {"level": 1}}, "device.provider_options.level"),
        ({"affinity": (3,)}, "device.affinity"),
        ({"precision": "int8"}, "device.precision"),
        ({"connection": "none"}, "device.connection"),
        ({"connection": SshConnection(ssh="pi@pi5")}, "device.connection"),
    ],
)
def test_an_edited_profile_is_refused_by_the_key_that_differs(resumed, folder, edit, key):
    with pytest.raises(RunError, match=rf"holds a run whose {key} differs: choose another folder"):
        resumed(profile=edit)
    assert folder.profile() == HardwareProfile(name="mine", description="d", connection="local")


@pytest.mark.parametrize(
    "edit",
    [{"limits": Limits(latency_ms=2.0, macs_m=1.0, model_mib=3.0)}, {"name": "other"}, {"description": "longer"}],
)
def test_limits_and_words_of_a_profile_may_change_and_the_last_ones_are_kept(resumed, folder, edit):
    resumed(profile=edit)
    profile = HardwareProfile(name="mine", description="d", connection="local").model_copy(update=edit)
    assert folder.profile() == profile


def test_the_way_to_a_device_may_change(folder):
    for port in ("22", "2222"):
        at = SshConnection(ssh="pi@pi5", command=("ssh", "-p", port))
        folder.start(
            Experiment(), SpaceDefinition(**SPACE), HardwareProfile(name="mine", description="d", connection=at)
        )
    assert folder.profile().connection == at


def test_choices_keep_the_order_in_which_the_study_knows_them(resumed, folder):
    resumed(space={"layers": dict(reversed(SPACE["layers"].items()))})
    assert list(folder.space().layers) == ["one", "two"]


def test_space_and_profile_are_kept_when_their_files_are_gone(folder, start, toy_experiment, tmp_path):
    experiment = toy_experiment()
    files = {name: tmp_path / f"{name}.yaml" for name in ("space", "device")}
    for name, path in files.items():
        path.write_text(Path(getattr(experiment, name)).read_text())
    experiment = toy_experiment(**{name: str(path) for name, path in files.items()})
    start(folder, experiment)
    for path in files.values():
        path.unlink()
    assert folder.space().max_exits == 2
    assert folder.profile().name == "paper"


def test_the_same_space_and_profile_may_come_from_elsewhere(folder, start):
    """They are compared by what they say, not by their names."""
    experiment = Experiment()
    folder.start(experiment, load_space("digits"), load_profile("x86-server"))
    folder.start(
        experiment.override({"space": "digits", "device": "x86-server"}),
        load_space("digits"),
        load_profile("x86-server"),
    )
    assert (folder.experiment().space, folder.experiment().device) == ("digits", "x86-server")


def test_a_process_killed_before_the_experiment_was_written_leaves_the_folder_free(folder, start):
    start(folder, Experiment())
    folder.experiment_file.unlink()
    start(folder, Experiment(space="digits"))
    assert folder.space() == load_space("digits")


@pytest.mark.parametrize(("name", "read"), [("space", RunFolder.space), ("device", RunFolder.profile)])
def test_a_damaged_space_or_profile_of_a_run_is_named(folder, start, name, read):
    start(folder, Experiment())
    path = folder.path / f"{name}.yaml"
    path.write_text("slots: {")
    with pytest.raises(RunError, match=rf"{name}\.yaml is not valid YAML"):
        read(folder)
    path.unlink()
    with pytest.raises(RunError, match=rf"{name}\.yaml does not exist"):
        read(folder)


def test_a_search_that_did_nothing_leaves_no_experiment_behind(folder, start):
    with pytest.raises(RunError, match="data"), folder.lock():
        start(folder, Experiment(seed=1))
        raise RunError("no such data")
    assert not folder.path.exists()
    with folder.lock():
        start(folder, Experiment())
        folder.backbone_file.write_bytes(b"weights")
    assert folder.experiment() == Experiment()
    with pytest.raises(RunError, match=r"holds a run whose seed"), folder.lock():
        start(folder, Experiment(seed=2))
    assert folder.experiment() == Experiment()


def test_files_that_a_killed_process_left_half_written_are_taken_away(folder, start):
    start(folder, Experiment())
    folder.features.mkdir()
    for name in (".a.f16.x1y2.tmp", "a.f16"):
        (folder.features / name).write_bytes(b"features")
    start(folder, Experiment())  # others may be at work here
    assert len(list(folder.features.iterdir())) == 2
    folder.sweep()
    assert [path.name for path in folder.features.iterdir()] == ["a.f16"]


def test_a_folder_of_something_else_is_refused(folder, start):
    folder.path.mkdir()
    (folder.path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match=r"is not empty and holds no run"):
        start(folder, Experiment())
    with pytest.raises(RunError, match=r"is not empty and holds no run"), folder.lock():
        start(folder, Experiment())
    assert [path.name for path in folder.path.iterdir()] == ["thesis.txt"]


def test_a_damaged_experiment_file_is_named(folder, start):
    start(folder, Experiment())
    folder.experiment_file.write_text("search: {trials")
    with pytest.raises(Exception, match=r"experiment\.yaml is not valid YAML"):
        folder.experiment()


def test_the_lock_says_who_holds_it_and_is_given_back(folder, start):
    with folder.lock():
        with (
            pytest.raises(RunError, match=rf"is being searched by process {os.getpid()}: wait for it, stop it"),
            RunFolder(folder.path).lock(),
        ):
            pass
        assert (folder.path / "run.pid").exists()
    assert not (folder.path / "run.pid").exists()
    with folder.lock():
        start(folder, Experiment())  # the files of the lock do not count as something else


def test_the_lock_is_given_back_after_a_failure_that_passes_unchanged(folder):
    with pytest.raises(FileNotFoundError, match="of the work itself"), folder.lock():
        raise FileNotFoundError("of the work itself")
    with folder.lock():
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunError, match=r"cannot use .*file.run .*: choose another --run-dir"),
        RunFolder(tmp_path / "file" / "run").lock(),
    ):
        pass


def test_evaluations_are_kept_by_key(folder):
    assert folder.read_evaluation("a") is None
    folder.write_evaluation("a", {"curve": [1, None]})
    assert folder.read_evaluation("a") == {"curve": [1, None]}


@pytest.mark.parametrize("text", ['{"curve": [', "", "[1, 2]", "\x00\x01"])
def test_a_damaged_evaluation_counts_as_none(folder, text, caplog):
    folder.write_evaluation("a", {})
    (folder.evaluations / "a.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        assert folder.read_evaluation("a") is None
    assert "a.json is damaged" in caplog.text


def test_a_turn_in_a_folder_that_cannot_be_written_is_named(folder):
    (folder.path / "asking.lock").mkdir(parents=True)
    with pytest.raises(RunError, match="cannot write"), folder.turn_to_ask():
        pass
