from __future__ import annotations

import json
import shutil

import pytest
import torch
from torch import nn

from aebnas import cli
from aebnas.devices.identity import identity_model
from aebnas.devices.yardstick import yardstick_model
from aebnas.exits.policy import Policy
from aebnas.export.package import export_network


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An exported network with one early exit, of linear layers."""
    torch.manual_seed(0)

    def exit_() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(32, 3))

    out = tmp_path_factory.mktemp("exports") / "onnx"
    return export_network(
        out,
        segments=[nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()), exit_()],
        branches=[exit_()],
        policy=Policy("max-probability", (0.5,)),
        input_shape=(2, 4, 4),
        classes=("a", "b", "c"),
        preprocessing={"scale": 1.0, "mean": [0.0], "std": [1.0]},
        costs={"latency_ms_mean": 0.25, "latency_ms_measured": 0.5},
        extra={"id": "toy", "branches": [{"attach": "stem"}], "exit_shares": [0.75, 0.25]},
    )


def test_an_exported_folder_is_taken_apart(folder, tmp_path, capsys):
    assert cli.main(["device", "measure", str(folder), "--device", profile(tmp_path, "connection: local")]) == 0
    printed = capsys.readouterr().out
    for text in (
        "segment 1",
        "branch 0",
        "exit 0 stem",
        "static backbone",
        "the search: predicted",
        "varies by",
        "in fp32",
    ):
        assert text in printed
    assert (folder / "where-the-time-goes.png").stat().st_size > 10_000


def test_an_exported_folder_as_json(folder, tmp_path, capsys):
    wanted, picture = profile(tmp_path, "connection: local\npower: {active_w: 2}"), tmp_path / "here.png"
    assert cli.main(["device", "measure", str(folder), "--device", wanted, "--json", "--plot", str(picture)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["device"], result["export"], result["plot"]) == ("board", str(folder), str(picture))
    assert picture.stat().st_size > 10_000
    figures = {mean["figure"]: mean["ms"] for mean in result["means"]}
    assert (figures["search_predicted_ms"], figures["search_end_to_end_ms"]) == (0.25, 0.5)
    one, other = result["paths"]
    assert figures["forced_paths_ms"] == pytest.approx(0.75 * one["latency_ms"] + 0.25 * other["latency_ms"])
    assert one["energy_mj"] == pytest.approx(2 * one["latency_ms"]) and one["energy_source"] == "profile"


def test_by_default_it_is_measured_here_as_the_manifest_says(folder, tmp_path, capsys):
    assert cli.main(["device", "measure", str(folder), "--json", "--plot", str(tmp_path / "a.png")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["device"], result["provider"], result["threads"]) == ("local", "CPUExecutionProvider", 1)


def refused(capsys, *arguments: str) -> tuple[int, str]:
    code = cli.main(["device", "measure", *arguments])
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return code, " ".join(message.split())


def test_a_folder_that_is_no_export_is_told_so(tmp_path, capsys):
    code, message = refused(capsys, str(tmp_path))
    assert code == 2 and "has no manifest.json, so it is no export: give a folder that `aebnas export` wrote" in message


def test_wrong_use_is_one_sentence(folder, models, tmp_path, capsys):
    code, message = refused(capsys, str(folder), models[0])
    assert code == 2 and "give one exported folder alone, or ONNX files" in message
    code, message = refused(capsys, models[0], "--plot", "a.png")
    assert code == 2 and "leave --plot out" in message
    code, message = refused(capsys, str(folder), "--plot", "a.pdf")
    assert code == 2 and "ends in .png" in message
    code, message = refused(capsys, str(folder), "--device", "no-such-board")
    assert code == 2 and "no-such-board" in message
    code, message = refused(capsys, str(folder), "--device", "raspberry-pi-5")
    assert code == 2 and "cannot be measured from here" in message
    code, message = refused(
        capsys, str(folder), "--device", profile(tmp_path, "connection: {ssh: a@b, command: [no-such-ssh]}")
    )
    assert code == 1 and "cannot start no-such-ssh" in message


def test_a_damaged_export_is_named(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "onnx")
    (tmp_path / "onnx" / "staged" / "branch_0.onnx").write_bytes(b"")
    code, message = refused(capsys, str(tmp_path / "onnx"))
    assert code == 2 and "branch_0.onnx is damaged" in message
    (tmp_path / "onnx" / "manifest.json").write_text("{")
    code, message = refused(capsys, str(tmp_path / "onnx"))
    assert code == 2 and "manifest.json is damaged" in message


def test_a_picture_that_cannot_be_written_costs_no_figures(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way of a folder")
    code = cli.main(["device", "measure", str(folder), "--json", "--plot", str(tmp_path / "file" / "a.png")])
    captured = capsys.readouterr()
    assert code == 2 and "cannot write" in captured.err and json.loads(captured.out)["paths"]
