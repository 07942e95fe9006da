from __future__ import annotations

import json

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
