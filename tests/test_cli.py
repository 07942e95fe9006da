"""The command line: exit codes, messages, formats, and the README's own path."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aebnas import cli
from aebnas.experiment import Experiment
from aebnas.run import Run

# The contract's keys of `front --format json` and `evaluate --json`.
FRONT_KEYS = {
    "id",
    "exits",
    "regime",
    "confidence",
    "thresholds",
    "exit_shares",
    "accuracy_val",
    "accuracy_test",
    "macs_mean",
    "latency_ms_mean",
    "latency_ms_measured",
    "static",
}
EVALUATE_KEYS = {
    "accuracy",
    "samples",
    "exit_shares",
    "latency_ms",
    "backbone_accuracy",
    "backbone_latency_ms",
    "speedup",
    "predicted_ms",
}
VERBS = [
    "search",
    "front",
    "export",
    "evaluate",
    "plot",
    "report",
    "diagnose",
    "compare",
    "list",
    "device list",
    "device show",
    "device check",
    "device measure",
]


@pytest.fixture(scope="module")
def experiment_file(tmp_path_factory):
    experiment = Experiment.embedded().override(
        {
            "name": "small",
            "backbone.options": {"depth": 8, "width": 8},
            "backbone_training.epochs": 4,
            "regime.training.epochs": 2,
            "regime.final_epochs": 2,
            "search.trials": 5,
            "search.finalists": 2,
        }
    )
    path = tmp_path_factory.mktemp("experiment") / "small.yaml"
    path.write_text(experiment.to_yaml())
    return path


@pytest.fixture(scope="module")
def run_dir(experiment_file, tmp_path_factory):
    # A name that rich would read as markup, and a shell as a pattern.
    folder = tmp_path_factory.mktemp("runs") / "[bold]small"
    assert cli.main(["search", str(experiment_file), "--run-dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def export_dir(run_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "[bold]onnx"
    assert cli.main(["export", str(run_dir), "--out", str(out)]) == 0
    return out


def one_error(capsys, arguments):
    code = cli.main(arguments)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, " ".join(captured.err.split())


def test_a_search_leaves_what_the_design_promises(run_dir):
    for name in ("experiment.yaml", "study.db", "backbone.pt", "branches", "evaluations", "latency", "export", "plots"):
        assert (run_dir / name).exists(), name
    assert (run_dir / "front.csv").exists()
    assert (run_dir / "plots" / "pareto.png").stat().st_size > 10_000


def test_a_search_says_which_commands_come_next(run_dir, experiment_file, capsys):
    assert cli.main(["search", str(experiment_file), "--run-dir", str(run_dir)]) == 0
    printed = capsys.readouterr().out
    assert f"aebnas export '{run_dir}' --out '[bold]small-onnx'" in printed
    assert "aebnas evaluate '[bold]small-onnx'" in printed
    assert f"Plots are in {run_dir}/plots." in printed


@pytest.mark.parametrize("static", [True, False])
def test_a_static_pick_is_not_to_be_diagnosed(run_dir, experiment_file, capsys, monkeypatch, static):
    pick = next(row for row in Run(run_dir).rows if row["static"] == static)
    monkeypatch.setattr(Run, "pick", lambda *_, **__: pick)
    assert cli.main(["search", str(experiment_file), "--run-dir", str(run_dir)]) == 0
    printed = capsys.readouterr().out
    assert "aebnas report" in printed and ("aebnas diagnose" in printed) == (not static)


def test_front_as_json_has_the_contracts_keys(run_dir, capsys):
    assert cli.main(["front", str(run_dir), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(row.keys() >= FRONT_KEYS for row in rows)
    backbone = next(row for row in rows if row["id"] == "backbone")
    assert backbone["static"] is True
    assert backbone["accuracy_test"] is not None
    for row in rows:
        if row["finalist"]:
            assert row["accuracy_test"] is not None
            assert row["latency_ms_measured"] > 0
        for branch in row["exits"]:
            assert branch.keys() == {"attach", "layers", "head"}


def test_front_as_csv_has_a_line_per_row(run_dir, capsys):
    cli.main(["front", str(run_dir), "--format", "json"])
    rows = json.loads(capsys.readouterr().out)
    assert cli.main(["front", str(run_dir), "--format", "csv"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0].startswith("id,")
    assert len(lines) == len(rows) + 1


def test_evaluate_as_json_has_the_contracts_keys(export_dir, capsys):
    assert cli.main(["evaluate", str(export_dir), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result.keys() == EVALUATE_KEYS | {"balanced_accuracy", "backbone_balanced_accuracy", "pixels"}
    assert result["latency_ms"].keys() == result["backbone_latency_ms"].keys() == {"mean", "p50", "p95"}
    assert sum(result["exit_shares"]) == pytest.approx(1.0)
    assert result["speedup"] == pytest.approx(result["backbone_latency_ms"]["mean"] / result["latency_ms"]["mean"])


def test_evaluate_measures_on_the_device_of_a_profile(export_dir, tmp_path, capsys):
    profile = tmp_path / "here.yaml"
    profile.write_text("name: here\ndescription: this machine, two threads\nthreads: 2\nconnection: local\n")
    assert cli.main(["evaluate", str(export_dir), "--device", str(profile), "--limit", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 20
    code, message = one_error(capsys, ["evaluate", str(export_dir), "--device", "raspberry-pi-5"])
    assert (code, "cannot be measured from here" in message) == (2, True)
    both = ["evaluate", str(export_dir), "--device", "local", "--provider", "CPUExecutionProvider"]
    assert one_error(capsys, both) == (
        2,
        "error: --device names a profile with its own provider: leave out --provider",
    )


def test_limits_and_objectives_are_given_on_the_command_line(experiment_file, tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["--objectives", "latency_p95_ms", "--objectives", "model_mib", "--limits", "latency_ms=100"]
    assert cli.main(["search", str(experiment_file), "--run-dir", str(folder), "--trials", "4", *options]) == 0
    settings = yaml.safe_load((folder / "experiment.yaml").read_text())["search"]
    assert settings["objectives"] == ["accuracy", "latency_p95_ms", "model_mib"]
    assert settings["limits"]["latency_ms"] == 100
    rows = json.loads((folder / "front.json").read_text())
    assert all(row["latency_ms_p95"] > 0 and row["model_mib"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("latency_ms", "--limits 'latency_ms' is no KEY=MAX: write --limits latency_ms=0.5, say"),
        ("latency_ms=fast", "--limits 'latency_ms=fast' is no KEY=MAX"),
        ("latency=3", "there is no key 'search.limits.latency': did you mean 'search.limits.latency_ms'?"),
        ("latency_ms=-1", "search.limits.latency_ms: "),
    ],
)
def test_a_limit_that_is_wrong_is_one_sentence(capsys, word, message):
    code, error = one_error(capsys, ["search", "--limits", word])
    assert code == 2
    assert message in error


def test_evaluate_finds_the_accuracy_that_the_front_says(run_dir, export_dir, capsys):
    cli.main(["evaluate", str(export_dir), "--json"])
    result = json.loads(capsys.readouterr().out)
    name = json.loads((export_dir / "manifest.json").read_text())["extra"]["id"]
    row = next(row for row in json.loads((run_dir / "front.json").read_text()) if row["id"] == name)
    assert result["accuracy"] == pytest.approx(row["accuracy_test"], abs=1.5 / result["samples"])


def test_evaluate_runs_the_file_for_pixels_with_the_same_figures(export_dir, capsys):
    found = []
    for options in ([], ["--uint8"]):
        assert cli.main(["evaluate", str(export_dir), "--json", *options]) == 0
        found.append(json.loads(capsys.readouterr().out))
    for key in ("samples", "accuracy", "exit_shares", "backbone_accuracy"):
        assert found[0][key] == found[1][key]
    assert [one["pixels"] for one in found] == [False, True]
    assert cli.main(["evaluate", str(export_dir), "--limit", "20", "--uint8"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "given raw pixels" in printed and "on its device, for images that are prepared already" in printed


def test_evaluate_as_table_prints_both_networks(export_dir, capsys):
    assert cli.main(["evaluate", str(export_dir), "--limit", "50"]) == 0
    printed = capsys.readouterr().out
    assert "static backbone" in printed
    assert "early-exit network" in printed


def test_report_and_plot_write_files(run_dir, capsys):
    assert cli.main(["plot", str(run_dir)]) == 0
    printed = capsys.readouterr().out.split()
    assert printed
    assert all(Path(name).exists() for name in printed)
    assert cli.main(["report", str(run_dir)]) == 0
    assert "<html" in (run_dir / "report.html").read_text()


def test_device_measure_prints_a_line_per_model(export_dir, capsys):
    models = [str(export_dir / name) for name in ("model.onnx", "backbone.onnx")]
    assert cli.main(["device", "measure", *models]) == 0
    assert capsys.readouterr().out.count("onnx") >= 2


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("regimes", {"disjoint", "joint", "mixed"}),
        ("confidences", {"max-probability", "margin", "entropy"}),
        ("layers", {"conv", "dsconv", "max-pool", "average-pool", "batch-norm", "relu", "hard-swish"}),
        ("heads", {"pooled-linear", "expand-mix"}),
        ("backbones", {"resnet", "inverted-residual", "convnet"}),
        ("datasets", {"digits", "fashion-mnist", "npz", "folder"}),
        ("spaces", {"aebnas-layers", "aebnas-stages", "compact", "digits"}),
        ("costs", {"macs", "latency_ms", "latency_p95_ms", "energy_mj", "model_mib", "peak_memory_mib"}),
    ],
)
def test_list_prints_names_one_per_line(kind, expected, capsys):
    assert cli.main(["list", kind]) == 0
    assert expected <= set(capsys.readouterr().out.split("\n"))


def test_device_profiles_are_listed_and_shown(capsys):
    assert cli.main(["device", "list"]) == 0
    names = capsys.readouterr().out.split()
    assert {"local", "raspberry-pi-4", "raspberry-pi-5", "jetson-orin-nano", "cortex-a-phone", "x86-server"} <= set(
        names
    )
    for name in names:
        assert cli.main(["device", "show", name]) == 0
        assert yaml.safe_load(capsys.readouterr().out)["name"] == name


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_has_an_example(verb, capsys):
    assert cli.main([*verb.split(), "--help"]) == 0
    assert "Example:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["search", "missing.yaml"], "missing.yaml does not exist"),
        (["search", "--device", "raspberry-pi-6"], "did you mean 'raspberry-pi-5'"),
        (["search", "--accelerator", "tpu"], "accelerator"),
        (["search", "--trials", "0"], "search.trials"),
        (["search", "--trials", "many"], "--trials"),
        (["serach"], "serach"),
        (["front", "nowhere"], "holds no run"),
        (["worker", "nowhere"], "holds no run: give the folder of a search, or with --storage and --artifacts"),
        (["worker", "nowhere", "--storage", "sqlite:///x.db"], "--study is missing"),
        (["worker", "nowhere", "--storage", "sqlite:///x.db", "--study", "x"], "there is no search x in that storage"),
        (["worker", "nowhere", "--storage", "x", "--study", "x"], "search.storage is no URL of a storage"),
        (["search", "--workers", "0"], "search.workers"),
        (["export", "nowhere", "--out", "x"], "holds no run"),
        (["evaluate", "nowhere"], "manifest.json is missing"),
        (["plot", "nowhere"], "holds no run"),
        (["device", "show", "toaster"], "there is no hardware profile 'toaster'"),
        (["device", "measure", "no.onnx"], "no.onnx is no file"),
        (["device", "check", "raspberry-pi-5"], "connection: none"),
        (["list", "models"], "models"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, message = one_error(capsys, arguments)
    assert code == 2
    assert expected in message


def test_debug_shows_the_traceback_wherever_it_stands(capsys, tmp_path):
    assert cli.main(["front", str(tmp_path), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_misspelt_key_names_the_key_and_the_nearest(tmp_path, capsys):
    path = tmp_path / "wrong.yaml"
    path.write_text("search: {trails: 3}\n")
    code, message = one_error(capsys, ["search", str(path), "--run-dir", str(tmp_path / "run")])
    assert code == 2
    assert "did you mean 'search.trials'" in message
    assert not (tmp_path / "run").exists()


def test_a_device_that_cannot_be_measured_wants_macs(tmp_path, capsys):
    code, message = one_error(capsys, ["search", "--device", "jetson-orin-nano", "--run-dir", str(tmp_path / "run")])
    assert code == 2
    assert "[accuracy, macs]" in message


def test_a_search_that_finds_nothing_within_the_limits_has_failed_with_exit_code_1(toy_experiment, tmp_path, capsys):
    device, file = tmp_path / "tiny.yaml", tmp_path / "toy.yaml"
    device.write_text("name: tiny\ndescription: d\nconnection: none\nlimits: {macs_m: 0.001}\n")
    file.write_text(toy_experiment(search__trials=1, device=str(device)).to_yaml())
    code, message = one_error(capsys, ["search", str(file), "--run-dir", str(tmp_path / "run")])
    assert code == 1
    assert "no candidate meets the limits (macs_m <= 0.001)" in message
    assert "relax limits.macs_m" in message


def test_pick_and_limits_do_not_go_together(run_dir, tmp_path, capsys):
    out = str(tmp_path / "x")
    code, message = one_error(
        capsys, ["export", str(run_dir), "--out", out, "--pick", "backbone", "--max-latency-ms", "1"]
    )
    assert code == 2
    assert "--pick" in message


def test_every_row_of_the_front_can_be_exported(run_dir, tmp_path, capsys):
    rows = json.loads((run_dir / "front.json").read_text())
    kinds = {(row["static"], row["finalist"]): row["id"] for row in rows}
    for name in kinds.values():
        out = tmp_path / name
        assert cli.main(["export", str(run_dir), "--out", str(out), "--pick", name]) == 0
        exits = "model.onnx exits by itself" in capsys.readouterr().out
        assert exits == (not next(row["static"] for row in rows if row["id"] == name))
        assert cli.main(["evaluate", str(out), "--limit", "20", "--json"]) == 0
    assert len(kinds) >= 2
    capsys.readouterr()


def test_what_cannot_be_said_beside_static_networks_does_not_fail_an_export(run_dir, tmp_path, capsys):
    copy, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(run_dir, copy)
    rows = json.loads((copy / "front.json").read_text())
    name = rows[0]["id"]
    (copy / "front.json").write_text(json.dumps([row for row in rows if row["id"] != "backbone"]))
    assert one_error(capsys, ["front", str(copy)])[0] == 2
    assert cli.main(["export", str(copy), "--out", str(out), "--pick", name]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{name} is in ") and "Next: aebnas evaluate" in captured.out and not captured.err


def test_names_in_brackets_are_printed_as_they_are(run_dir, export_dir, tmp_path, capsys, monkeypatch):
    out = tmp_path / "[bold]x[/bold]"
    assert cli.main(["export", str(run_dir), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"is in {out}: model.onnx" in printed and f"Next: aebnas evaluate '{out}'" in printed
    assert f"web page: {out / 'samples'}" in printed
    assert cli.main(["diagnose", str(run_dir)]) == 0
    printed = capsys.readouterr().out
    assert f" of {run_dir}: " in printed and f"All figures are in {run_dir / 'diagnostics'}" in printed
    assert cli.main(["device", "measure", str(export_dir), "--plot", str(tmp_path / "[bold]x.png")]) == 0
    assert f"The picture is {tmp_path / '[bold]x.png'}." in capsys.readouterr().out
    for arguments in (["front", "[bold]x[/i]"], ["search", "[/bold].yaml"], ["[bold]x"]):
        monkeypatch.chdir(tmp_path)
        assert arguments[-1] in one_error(capsys, arguments)[1]


def test_help_and_mistakes_answer_without_torch():
    code = "import sys; from aebnas.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_the_readmes_python_runs(tmp_path, monkeypatch):
    import torch
    from sklearn.datasets import load_digits
    from torch import nn
    from torch.utils.data import Subset, TensorDataset

    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    data = TensorDataset(images, torch.tensor(digits.target))
    net = nn.Sequential(
        *(nn.Sequential(nn.Conv2d(c, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()) for c in (1, 16, 16)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
    )
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    (block,) = [code for code in re.findall(r"```python\n(.*?)```", readme, re.S) if "Experiment(" in code]
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    names = {
        "net": net,
        "train_set": Subset(data, range(300)),
        "test_set": Subset(data, range(300, 400)),
        "images": images[300:310].numpy(),
    }
    exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "mine-onnx" / "model.onnx").exists()
