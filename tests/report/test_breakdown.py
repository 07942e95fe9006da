from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import pytest
from breakdowns import breakdown, measured
from rich.console import Console

from aebnas.report.breakdown import (
    DEEPEST,
    IF_ROW,
    START_ROW,
    STATIC,
    breakdown_json,
    breakdown_tables,
    means,
    operators,
)


def printed(found, width: int = 160) -> str:
    text = io.StringIO()
    console = Console(width=width, file=text)
    for table in breakdown_tables(found):
        console.print(table)
    return text.getvalue()


def line(text: str, beginning: str) -> list[str]:
    (found,) = [row for row in text.splitlines() if row.strip().startswith(beginning)]
    return re.split(" {2,}", found.strip())


def test_every_kind_of_figure_keeps_its_name():
    found = {mean.key: mean.ms for mean in means(breakdown())}
    assert found == {
        "search_predicted_ms": 7.5,
        "search_end_to_end_ms": 7.75,
        "sums_of_parts_ms": pytest.approx(0.75 * 7 + 0.25 * 14),
        "forced_paths_ms": pytest.approx(0.75 * 7.25 + 0.25 * 15),
        "forced_paths_median_ms": pytest.approx(2 * (0.75 * 7.25 + 0.25 * 15)),
    }


def test_what_is_not_known_is_not_made_up():
    found = breakdown(costs={"latency_ms_mean": None})
    found = replace(found, paths=tuple(replace(path, share=None) for path in found.paths))
    assert [mean.ms for mean in means(found)] == [None] * 5
    assert line(printed(found), "now: forced paths ")[1:] == ["–", "–"]


def test_medians_are_compared_with_the_median_of_the_backbone():
    text = printed(breakdown())
    assert line(text, "now: forced paths ")[1:] == ["9.1875", "1.20x"]
    assert line(text, "now: forced paths, medians")[1:] == ["18.3750", "1.20x"]
    assert line(text, "the search: predicted")[1:] == ["7.5000", "–"]


def test_a_line_per_part_and_per_path():
    text = printed(breakdown())
    assert line(text, "branch 0") == ["branch 0", "2.0000", "0.3000", "0.5000", "–", "0.20"]
    assert line(text, "segment 0")[3] == "–"
    path = line(text, "exit 0 stem")
    assert path == ["exit 0 stem", "75", "7.0000", "7.2500", "0.7250", "0.2500", "0.9357", "0.50"]
    assert line(text, "static backbone")[3] == "11.0000"
    assert line(text, "model.onnx") == ["model.onnx", "0.70", "5.00", "2.00"]


def test_energy_is_shown_where_it_is_known_with_its_source():
    found = breakdown()
    assert "energy" not in printed(found)
    first = replace(found.paths[0], measurement=measured(7.25, energy_mj=3.0, energy_source="profile"))
    text = printed(replace(found, paths=(first, found.paths[1])))
    assert line(text, "exit 0 stem")[-1] == "3.000 (profile)" and line(text, "static backbone")[-1] == "–"


def test_what_is_not_steady_is_marked():
    found = breakdown()
    text = printed(replace(found, backbone=replace(found.backbone, measurement=measured(11.0, steady=False))))
    assert line(text, "static backbone")[3] == "11.0000 *"


def test_operators_add_up_to_the_latency_and_the_if_is_the_rest():
    found = operators(breakdown())
    # 15 ms: 1 is the start and 1 the rest; what is left is shared as 6 to 2, without what the profile books on the If.
    assert found[DEEPEST] == pytest.approx({START_ROW: 1.0, IF_ROW: 1.0, "Conv": 9.75, "Gemm": 3.25})
    assert found[STATIC] == pytest.approx({START_ROW: 1.0, "Conv": 10.0})


def test_a_network_without_exits_has_no_if():
    found = breakdown()
    found = replace(found, paths=found.paths[1:], parts=found.parts[2:])
    assert sum(operators(found)[DEEPEST].values()) == pytest.approx(15.0)
    assert IF_ROW not in operators(found)[DEEPEST]


def test_the_json_is_flat_lists_with_everything():
    values = json.loads(json.dumps(breakdown_json(breakdown()), allow_nan=False))
    for key in ("parts", "paths", "pieces", "means", "files", "operators"):
        assert all(not isinstance(value, (dict, list)) for entry in values[key] for value in entry.values()), key
    assert [(piece["kind"], piece["ms"]) for piece in values["pieces"] if piece["path"] == 0] == [
        ("start", 1.0),
        ("segment", 4.0),
        ("branch", 1.5),
        ("gate", 0.5),
        ("rest", 0.25),
    ]
    assert values["search"] == {"latency_ms_mean": 7.5, "latency_ms_measured": 7.75}
    assert [file["resident_mib"] for file in values["files"]] == [5.0, 4.0]
    assert {entry["file"] for entry in values["operators"]} == {
        "staged/segment_0.onnx",
        "staged/branch_0.onnx",
        "staged/segment_1.onnx",
        "model.onnx",
        "backbone.onnx",
    }
    assert values["not_steady"] == []


def test_long_names_are_shortened_where_people_read_and_whole_in_the_json():
    name = "backbone.features.stage3.block.2.expanded_convolution"
    found = breakdown()
    found = replace(found, paths=(replace(found.paths[0], name=name), found.paths[1]))
    assert name not in printed(found) and "exit 0 back.feat.stag3" in printed(found)
    assert breakdown_json(found)["paths"][0]["name"] == name
