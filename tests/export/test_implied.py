from __future__ import annotations

import json

import pytest

from aebnas.errors import ProfileError
from aebnas.export.implied import implied_profile
from aebnas.export.manifest import MANIFEST, read_manifest
from aebnas.files import write_json


def test_the_device_is_this_machine_as_the_manifest_says(exported, tmp_path):
    values = json.loads((exported[1] / MANIFEST).read_text())
    options = {"intra_op_num_threads": 3}
    write_json(
        tmp_path / MANIFEST,
        {**values, "provider": "XnnpackExecutionProvider", "provider_options": options, "threads": 3},
    )
    profile = implied_profile(read_manifest(tmp_path))
    assert (profile.provider, profile.provider_options, profile.threads) == ("XnnpackExecutionProvider", options, 3)
    assert profile.connection == "local"


def test_another_provider_comes_without_the_options_of_the_first(exported, tmp_path):
    values = json.loads((exported[1] / MANIFEST).read_text())
    write_json(tmp_path / MANIFEST, {**values, "provider_options": {"a": 1}})
    profile = implied_profile(read_manifest(tmp_path), "CUDAExecutionProvider")
    assert (profile.provider, profile.provider_options) == ("CUDAExecutionProvider", {})


@pytest.mark.parametrize(("name", "options"), [("CPU", {"a": 1}), ("XNNPACK", {})])
def test_a_provider_may_be_called_by_its_short_name(exported, tmp_path, name, options):
    values = json.loads((exported[1] / MANIFEST).read_text())
    write_json(tmp_path / MANIFEST, {**values, "provider_options": {"a": 1}})
    profile = implied_profile(read_manifest(tmp_path), name)
    assert profile.provider.lower() == f"{name}ExecutionProvider".lower()
    assert profile.provider_options == options


def test_what_is_no_provider_is_said_in_one_sentence(exported):
    with pytest.raises(ProfileError, match=r"^there is no provider 'CPUU': did you mean 'CPU'\?"):
        implied_profile(read_manifest(exported[1]), "CPUU")
