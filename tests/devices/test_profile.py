from __future__ import annotations

import pytest

from aebnas.devices.profile import HardwareProfile, list_profiles, load_profile
from aebnas.errors import ProfileError


def test_the_packaged_profiles_are_there():
    assert set(list_profiles()) >= {
        "local",
        "raspberry-pi-4",
        "raspberry-pi-5",
        "jetson-orin-nano",
        "cortex-a-phone",
        "x86-server",
    }


@pytest.mark.parametrize("name", list_profiles())
def test_a_packaged_profile_is_valid_and_called_like_its_file(name):
    profile = load_profile(name)
    assert profile.name == name and profile.description
    # What cannot be measured here comes without invented figures.
    assert (profile.connection == "local") == (name == "local")
    assert profile.limits.latency_ms is None


def test_a_profile_is_read_from_a_path(tmp_path):
    path = tmp_path / "board.yaml"
    path.write_text("name: board\ndescription: mine\nthreads: 3\nlimits: {latency_ms: 2.5}\nconnection: local\n")
    profile = load_profile(path)
    assert profile == load_profile(str(path))
    assert (profile.threads, profile.limits.latency_ms, profile.limits.macs_m) == (3, 2.5, None)
    assert profile.provider == "CPUExecutionProvider"


def test_an_unknown_name_comes_with_the_nearest_one():
    with pytest.raises(ProfileError, match="no hardware profile 'raspbery-pi-4': did you mean 'raspberry-pi-4'"):
        load_profile("raspbery-pi-4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\ndescription: b\nthreads: 0\n", "threads: .*greater than or equal to 1"),
        ("name: a\ndescription: b\nlimits: {latency_ms: 0}\n", r"limits\.latency_ms: .*greater than 0"),
        ("name: a\ndescription: b\nlimits: {latency: 1}\n", r"no key 'limits\.latency'.*limits\.latency_ms"),
        ("name: a\ndescription: b\nthread: 1\n", "did you mean 'threads'"),
        ("name: a\ndescription: b\nconnection: ssh\n", "connection: .*'local' or 'none'"),
        ("description: b\n", "name: is missing"),
        ("[]", "must hold keys and values"),
        ("a: [", "not valid YAML at line"),
    ],
)
def test_a_wrong_file_is_one_sentence_that_names_the_key(tmp_path, text, message):
    path = tmp_path / "board.yaml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=message) as caught:
        load_profile(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ProfileError, match=r"none\.yaml does not exist"):
        load_profile(tmp_path / "none.yaml")


def test_the_fingerprint_is_about_latency_only():
    profile = HardwareProfile(name="a", description="")
    assert profile.fingerprint == profile.model_copy(update={"notes": "x"}).fingerprint
    assert profile.fingerprint != profile.model_copy(update={"threads": 2}).fingerprint
