"""The latency benchmark, on so little that it takes seconds; its figures are not judged here."""

from __future__ import annotations

import json
import math

import pytest

from aebnas.devices.profile import load_profile
from benchmarks import latency


@pytest.fixture(scope="module")
def setting():
    images = latency.images_of(latency.TIMED_IMAGES + 4)
    assert images.shape[1:] == (1, 28, 28)
    return latency.compare("inverted-residual", load_profile("local"), images, count=2, repeats=1)


def test_its_figures_have_the_promised_keys(setting):
    figures = latency.flat([setting])
    promised = {"networks", "mape_pct", "p95_error_pct", "spearman", "predict_ms", "if_overhead_us"}
    assert promised <= figures.keys()
    assert figures["networks"] == 2
    assert all(math.isfinite(value) for value in figures.values())
    json.dumps(figures, allow_nan=False)


def test_errors_are_those_of_the_predictions(setting):
    wanted = [100 * abs(p / m - 1) for p, m in zip(setting.predicted_ms, setting.measured_ms, strict=True)]
    assert setting.errors_pct.tolist() == pytest.approx(wanted)
    assert latency.table_of([setting]).row_count > 10


def test_random_networks_are_different_ones_with_one_to_four_exits():
    backbone = latency.cut("resnet")
    space = latency.load_space("compact")
    genome = latency.build_genome(space, backbone.attach_points, 10, latency.NetworkGenes("disjoint", "margin"))
    specs = latency.random_specs(genome, 30)
    assert len({spec.key for spec in specs}) == 30
    assert {len(spec.branches) for spec in specs} == {1, 2, 3, 4}
