"""The examination of an installation."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from aebnas import cli
from aebnas.devices.crowded import Crowd
from aebnas.devices.results import Finding
from aebnas.starting import doctor, installed
from aebnas.starting.health import Health, Section

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[]", requirement)[0].lower() for requirement in requirements}


def test_the_extras_are_those_of_the_project():
    listed = PROJECT["optional-dependencies"]
    assert set(installed.EXTRAS) == set(listed) - {"dev", "docs"}
    for extra, (_, packages) in installed.EXTRAS.items():
        assert {package.lower() for package in packages} == names(listed[extra])


@pytest.mark.parametrize(
    ("versions", "message", "ok"),
    [
        ({"torch": "2.6.0", "torchvision": "0.20.1"}, "torchvision 0.20.1 belongs to torch 2.5, not 2.6.0", True),
        ({"onnxruntime": "1.20", "onnxruntime-gpu": "1.20"}, "are installed over each other", True),
        ({"numpy": "2.1.0", "torch": "2.2.1"}, "numpy 2.1.0 does not go with torch 2.2.1", False),
        ({"thop": "0.1.1", "ultralytics-thop": "2.0"}, "ultralytics-thop (AGPL) lies over", True),
    ],
)
def test_versions_that_do_not_go_together_are_told(versions, message, ok):
    (finding,) = installed.conflicts(versions)
    assert message in finding.text and finding.ok is ok and "pip" in finding.fix


def test_versions_that_go_together_are_no_matter():
    assert list(installed.conflicts({"torch": "2.13.0+cpu", "torchvision": "0.28.0", "numpy": "2.4"})) == []
    (finding,) = installed.conflicts({"torch": "2.13.0+cpu", "torchvision": "0.28.0"}, "operator nms does not exist")
    assert "operator nms does not exist" in finding.text and "one index" in finding.fix


def test_what_a_search_needs_is_broken_where_it_is_missing_old_or_cannot_be_imported(monkeypatch):
    found = {finding.what: finding for finding in installed.core_findings(["numpy>=1", "no-such-package>=3"])}
    assert found["numpy"].ok and not found["no-such-package"].ok
    assert found["no-such-package"].fix == "pip install 'no-such-package>=3'"
    (old,) = installed.core_findings(["numpy>=900"])
    assert not old.ok and "but numpy>=900 is needed" in old.text
    monkeypatch.setattr(installed, "import_problem", lambda _: "undefined symbol")
    (broken,) = installed.core_findings(["numpy"])
    assert not broken.ok and "cannot be imported: undefined symbol" in broken.text


def test_a_missing_extra_is_worth_knowing_and_says_how_to_have_it():
    found = {finding.what: finding for finding in installed.extra_findings({"timm": "1.0"})}
    assert found["timm"].fix == "" and found["dashboard"].ok
    assert found["dashboard"].fix == "pip install 'aebnas[dashboard]'"


def test_this_installation_can_search(capsys, tmp_path):
    assert cli.main(["doctor", "--run-dir", str(tmp_path / "runs"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    sections = result["sections"]
    assert result["ok"] and {finding["what"] for finding in sections["versions"]} >= {
        "aebnas",
        "python",
        "torch",
        "optuna",
    }
    assert {finding["what"] for finding in sections["devices"]} >= {"local", "raspberry-pi-5"}
    assert "digits" in {finding["what"] for finding in sections["data sets at hand"]}
    assert any("GiB free" in finding["text"] for finding in sections["disk"])


def test_it_is_read_on_eighty_columns(capsys, tmp_path, monkeypatch):
    from rich.console import Console

    from aebnas import cli_doctor

    monkeypatch.setattr(cli_doctor, "out", Console(width=80))
    assert cli.main(["doctor", "--run-dir", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out
    assert "A search can run here" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_something_broken_is_exit_code_1(capsys, monkeypatch):
    health = Health([Section("versions", [Finding("torch", False, "missing", "pip install torch")], brief=True)])
    monkeypatch.setattr(doctor, "examine", lambda *_, **__: health)
    assert cli.main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "NO" in printed and "pip install torch" in printed and "1 to put right" in printed


def test_threads_that_the_environment_limits_are_worth_knowing(tmp_path):
    health = doctor.examine(tmp_path, environment={"OMP_NUM_THREADS": "1"})
    (found,) = [one for section in health.sections for one in section.findings if one.what == "threads"]
    assert found.ok and found.text == "OMP_NUM_THREADS=1" and "unset it" in found.fix


def test_a_machine_that_is_busy_with_other_work_is_worth_knowing(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "crowded", lambda _: Crowd("they are busy", "wait"))
    found = {one.what: one for section in doctor.examine(tmp_path).sections for one in section.findings}
    assert found["load"] == Finding("load", True, "they are busy", "wait")


def test_a_folder_that_cannot_be_written_is_broken(tmp_path):
    (tmp_path / "file").write_text("")
    found = doctor._place("runs", tmp_path / "file" / "runs", "choose another", needed=True)
    assert not found.ok and found.fix == "choose another"


def test_devices_are_reached_when_that_is_asked_for(tmp_path):
    from aebnas.devices.profile import HardwareProfile

    def about(**keys):
        return HardwareProfile(name="board", description="d", **keys)

    assert "no connection" in doctor._device(about(), reach=True).text
    assert doctor._device(about(connection="local"), reach=False).text.endswith("; local")
    unknown = about(connection={"ssh": "a@b", "command": ["no-such-ssh"]})
    found = doctor._device(unknown, reach=True)
    assert found.ok and "cannot be reached" in found.text and "no-such-ssh" in found.fix
    assert "ready" in doctor._device(about(connection="local"), reach=True).text
