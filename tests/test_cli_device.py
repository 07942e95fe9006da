from __future__ import annotations

import json

import pytest

from aebnas import cli
from aebnas.devices.identity import identity_model
from aebnas.devices.yardstick import yardstick_model


def profile(folder, text: str) -> str:
    path = folder / "board.yaml"
    path.write_text(f"name: board\ndescription: d\nprotocol: {{precision_pct: 20, time_limit_s: 1}}\n{text}\n")
    return str(path)


@pytest.fixture
def models(tmp_path):
    (tmp_path / "net.onnx").write_bytes(yardstick_model())
    (tmp_path / "copy.onnx").write_bytes(identity_model((3,)))
    return [str(tmp_path / "net.onnx"), str(tmp_path / "copy.onnx")]


def test_a_device_with_everything_is_ready(tmp_path, capsys):
    assert cli.main(["device", "check", profile(tmp_path, "connection: local")]) == 0
    printed = capsys.readouterr().out
    assert "board: ready" in printed and "onnxruntime" in printed


@pytest.mark.parametrize("text", ["threads: 200", "provider: CUDA", "affinity: [4000]"])
def test_a_device_that_lacks_something_is_not_ready(tmp_path, capsys, text):
    assert cli.main(["device", "check", profile(tmp_path, f"connection: local\n{text}"), "--json"]) == 2
    result = json.loads(capsys.readouterr().out)
    (fault,) = [finding for finding in result["findings"] if not finding["ok"]]
    assert not result["ready"] and fault["fix"]


def test_a_device_that_cannot_be_reached_is_a_failure(tmp_path, capsys):
    assert cli.main(["device", "check", profile(tmp_path, "connection: {ssh: a@b, command: [no-such-ssh]}")]) == 1
    assert "cannot start no-such-ssh" in capsys.readouterr().err


def test_measuring_prints_figures_and_where_the_time_goes(tmp_path, models, capsys):
    assert cli.main(["device", "measure", *models, "--device", profile(tmp_path, "connection: local")]) == 0
    printed = capsys.readouterr().out
    assert "Conv" in printed and "this machine varies by" in printed


def test_measuring_as_json(tmp_path, models, capsys):
    wanted = profile(tmp_path, "connection: local\npower: {active_w: 2}")
    assert cli.main(["device", "measure", *models, "--device", wanted, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["device"] == "board" and result["noise_pct"] >= 0
    net, copy = result["models"]
    assert [net["model"], copy["model"]] == models
    assert sum(net["ms_by_operator"].values()) == pytest.approx(net["latency_ms"])
    assert net["energy_mj"] == pytest.approx(2 * net["latency_ms"]) and net["energy_source"] == "profile"
    assert net["latency_ms"] > copy["latency_ms"] > 0


@pytest.mark.parametrize("content", [b"", b"not a model", yardstick_model()[:-1000]])
def test_a_file_that_is_no_model_is_one_sentence(tmp_path, capsys, content):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    code = cli.main(["device", "measure", str(path)])
    message = capsys.readouterr().err
    assert code in (1, 2) and str(path) in message.replace("\n", "") and "Traceback" not in message


def test_weights_beside_the_file_come_along(tmp_path, capsys):
    import onnx

    model = onnx.load_from_string(yardstick_model())
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    assert (tmp_path / "net.data").stat().st_size > 10_000
    assert cli.main(["device", "measure", str(tmp_path / "net.onnx"), "--json"]) == 0
    (net,) = json.loads(capsys.readouterr().out)["models"]
    assert net["size_mib"] * 2**20 == pytest.approx(len(yardstick_model()), rel=0.1)
    (tmp_path / "net.data").unlink()
    assert cli.main(["device", "measure", str(tmp_path / "net.onnx")]) == 2
