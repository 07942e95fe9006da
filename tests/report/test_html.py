import base64
import hashlib
import itertools
import json
import re

import numpy as np
import pytest
from pages import Page, points_of
from synthetic_runs import early_row, measured, static_row, trial, write_run

from aebnas.errors import RunError
from aebnas.experiment import Experiment
from aebnas.report.html import write_report
from aebnas.report.uncertainty import Uncertainty
from aebnas.report.worth import worth_of_exits

EVIL = "</script><script>alert('x')</script><img src=x onerror=alert(1)>&\"'"
SECTIONS = ("overview", "front", "networks", "time", "shares", "examples", "search", "trust", "about")


def read(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def custom_run(experiment, rows, folder, **changes):
    """A run whose model came from Python and is not at hand."""
    custom = Experiment.model_validate(experiment.model_dump() | {"backbone": {"name": "custom"}} | changes)
    return write_run(folder, rows, [trial(0)], custom)


def test_the_report_is_one_file_with_everything_in_it(finished, tmp_path):
    path = write_report(finished, tmp_path / "report.html")
    page, text = read(path), path.read_text(encoding="utf-8")
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert not re.search(r"https?://|@import|url\(", text.replace("http://www.w3.org/2000/svg", ""))
    assert set(SECTIONS) <= set(page.ids) and len(page.ids) == len(set(page.ids))
    assert path.stat().st_size < 2_000_000
    assert list(tmp_path.iterdir()) == [path]


def test_links_within_the_page_lead_somewhere(finished, tmp_path):
    page = read(write_report(finished, tmp_path / "report.html"))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_headings_come_in_order_and_landmarks_have_names(finished, tmp_path):
    page = read(write_report(finished, tmp_path / "report.html"))
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(text.strip() for _, text in page.headings if text != "Selected point")
    assert {"header", "nav", "main", "footer"} <= set(page.tags)
    for tag, attributes in page.attributes:
        if tag in ("section", "nav", "form"):
            assert "aria-label" in attributes or attributes["aria-labelledby"] in page.ids
        if attributes.get("role") == "img":
            assert attributes["aria-label"]


def test_tables_have_captions_and_scopes(finished, tmp_path):
    page = read(write_report(finished, tmp_path / "report.html"))
    assert page.tags.count("table") == page.tags.count("caption") > 3
    assert all("scope" in attributes for tag, attributes in page.attributes if tag == "th")


def test_figures_of_the_page_are_those_of_the_front(finished, tmp_path):
    page = read(write_report(finished, tmp_path / "report.html"))
    points = points_of(page.data)
    rows = json.loads(finished.folder.front_file.read_text())
    assert list(points) == [row["id"] for row in sorted(rows, key=lambda row: (row["static"], not row["finalist"]))]
    for row in rows:
        point = points[row["id"]]
        for column in page.data["columns"]:
            assert point[column] == row.get(column)
        on = [
            (exit_["attach"], bar, share)
            for exit_, bar, share in zip(row["exits"], row["thresholds"], row["exit_shares"], strict=False)
            if bar is not None
        ]
        assert row["static"] or (point["exits"] == on and point["last"] == row["exit_shares"][-1])
        assert point["kind"] in (("backbone", "truncated") if row["static"] else ("finalist", "front"))
    assert page.data["pick"] == finished.pick()["id"]


def test_the_headline_has_the_pick_beside_the_backbone_and_how_sure_that_is(run, rows, tmp_path):
    page = read(write_report(run, tmp_path / "report.html"))
    assert "default pick is bbbbbbf-1" in page.text.replace(" :", ":").replace("  ", " ")
    assert "93.00 % on test (backbone 94.00 %)" in page.text and "1.67x as fast" in page.text
    assert "4.00 M MACs" in page.text and "50 % of the backbone's 8.00 M" in page.text
    assert re.search(r"test split has \d+ samples", page.text)
    assert "seconds for trials: 20.0" in page.text and "torch " in page.text


def test_uncertainty_comes_from_the_size_of_the_split(experiment, rows, tmp_path):
    run = custom_run(experiment, rows, tmp_path / "run")
    summary = json.loads(run.folder.summary_file.read_text()) | {"data": {"validation": 100, "test": 400}}
    run.folder.summary_file.write_text(json.dumps(summary))
    page = read(write_report(run, tmp_path / "report.html"))
    # 1.96 * sqrt(0.93 * 0.07 / 400) and 1.96 * sqrt(0.95 * 0.05 / 100)
    assert "93.00 % ± 2.50" in page.text and "95.00 % ± 4.27" in page.text
    assert "1.00 points apart: less than the 3.42" in page.text


def test_of_balanced_accuracy_it_comes_from_the_sizes_of_the_classes():
    rare = Uncertainty("balanced", {"test": 110}, {"test": np.array([100, 10])})
    even = Uncertainty("balanced", {"test": 110}, {"test": np.array([55, 55])})
    plain = Uncertainty("plain", {"test": 110})
    assert even.half(0.9, "test") == pytest.approx(plain.half(0.9, "test"), rel=1e-6)
    assert rare.half(0.9, "test") > 1.5 * plain.half(0.9, "test")
    # Where the classes' sizes are not known, nothing is said.
    assert Uncertainty("balanced", {"test": 110}).half(0.9, "test") is None and plain.half(0.9, "validation") is None


def test_balanced_accuracy_is_called_so_everywhere(experiment, rows, tmp_path):
    run = custom_run(experiment, rows, tmp_path / "run", accuracy="balanced")
    page = read(write_report(run, tmp_path / "report.html"))
    assert "93.00 % balanced accuracy on test" in page.text and "Balanced accuracy on validation" in page.text
    assert "Accuracies are balanced" in page.text and page.data["accuracy"] == "balanced accuracy"


def test_a_static_network_that_beats_the_pick_is_named(experiment, rows, tmp_path):
    better = measured(static_row("cut-eeeeee", 0.96, 0.5e6, "body.0"), 0.1, test=0.95)
    page = read(write_report(custom_run(experiment, [*rows, better], tmp_path / "run"), tmp_path / "report.html"))
    assert "The static network cut-eeeeee, the backbone cut off at body.0, is as good as" in page.text
    assert "static network cut-dddddd" not in page.text


def test_of_a_static_network_the_headline_says_what_the_front_says(experiment, rows, tmp_path):
    # Less accurate than the pick, by less than a standard error of as many images as the summary tells of.
    close = measured(static_row("cut-eeeeee", 0.949, 0.5e6, "body.0"), 0.1, test=0.929)
    run = custom_run(experiment, [*rows, close], tmp_path / "run")
    summary = json.loads(run.folder.summary_file.read_text())
    for images, said in ((100, True), (1_000_000, False)):
        run.folder.summary_file.write_text(json.dumps(summary | {"data": {"validation": images, "test": images}}))
        sentence = worth_of_exits(run)
        assert (sentence is not None) == said
        page = read(write_report(run, tmp_path / "report.html"))
        assert ("is as good as bbbbbbf-1 within noise" in page.text) == said
        assert sentence is None or sentence in page.text


def test_of_a_static_pick_the_headline_says_that_it_is_one(experiment, tmp_path):
    rows = [measured(static_row("cut-eeeeee", 0.95, 0.5e6, "body.0"), 0.1, test=0.95)]
    rows.append(measured(static_row("backbone", 0.95, 8e6), 1.0, test=0.95))
    page = read(write_report(custom_run(experiment, rows, tmp_path / "run"), tmp_path / "report.html"))
    assert page.text.count("better here than the static ones: the pick, cut-eeeeee, is one.") == 1


def test_names_from_outside_are_escaped(rows, experiment, tmp_path):
    evil = measured(early_row("eeeeeef-0", 0.97, 1e6, exits=((EVIL, 0.5, 0.5),)), 0.1, test=0.9) | {"id": EVIL}
    run = custom_run(experiment, [evil, *rows], tmp_path / "run", space=EVIL)
    path = write_report(run, tmp_path / "report.html")
    page = read(path)
    assert page.tags.count("script") == 2 and "img" not in page.tags
    assert not any(name.startswith("on") for _, attributes in page.attributes for name in attributes)
    assert EVIL in points_of(page.data)


def test_only_the_page_s_own_script_may_run(finished, tmp_path):
    page = read(write_report(finished, tmp_path / "report.html"))
    policy = next(attributes["content"] for tag, attributes in page.attributes if "http-equiv" in attributes)
    script = "".join(page.scripts[1:])
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'") and "unsafe-eval" not in policy


def test_a_run_without_latency_says_so(experiment, tmp_path):
    rows = [early_row("aaaaaa-0", 0.9, 2e6), static_row("backbone", 0.9, 8e6)]
    page = read(write_report(custom_run(experiment, rows, tmp_path / "run"), tmp_path / "report.html"))
    assert "No latency was measured" in page.text and "None" not in page.text.split("experiment.yaml")[0]
    assert [axis["name"] for axis in page.data["axes"]] == ["macs"]
    assert "This run has no finalists." in page.text


def test_a_run_whose_model_is_not_at_hand_has_what_is_known_without_it(rows, experiment, tmp_path):
    page = read(write_report(custom_run(experiment, rows, tmp_path / "run"), tmp_path / "report.html"))
    assert page.data["macs"] is None and page.data["seen"] == {}
    assert "There are no examples to see. The model or the data of this run came from Python." in page.text


def test_a_run_whose_data_are_gone_says_which(copied, tmp_path):
    text = copied.folder.experiment_file.read_text()
    copied.folder.experiment_file.write_text(re.sub(r"path: .*data\.npz", "path: /nowhere/data.npz", text))
    page = read(write_report(type(copied)(copied.folder.path), tmp_path / "report.html"))
    assert (
        "The data and the backbone of this run cannot be loaded here" in page.text and "/nowhere/data.npz" in page.text
    )


def test_weights_that_are_gone_cost_the_examples_alone(copied, tmp_path):
    for path in copied.folder.branches.path("x").parent.glob("*.pt"):
        path.unlink()
    page = read(write_report(copied, tmp_path / "report.html"))
    assert "could not be run again" in page.text and page.data["seen"] == {}


@pytest.mark.parametrize("content", ["{", "[]", '{"seconds": 3}'])
def test_a_damaged_summary_is_named(run, tmp_path, content):
    run.folder.summary_file.write_text(content)
    with pytest.raises(RunError, match=r"summary\.json is damaged"):
        write_report(run, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
