"""What the numbers of a run do not say, a sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aebnas.devices.profile import HardwareProfile
from aebnas.report.describe import percent
from aebnas.report.front import Front
from aebnas.report.uncertainty import Uncertainty


def limits_of_numbers(
    front: Front, summary: Mapping[str, Any], profile: HardwareProfile, sure: Uncertainty
) -> Iterator[str]:
    """Say how far the numbers can be trusted."""
    yield "One seed, one split: another seed finds other networks, and their difference is part of the uncertainty."
    accuracy = front.pick["accuracy_test"]
    half = None if accuracy is None else sure.half(accuracy, "test")
    if half is not None:
        yield (
            f"The test split has {sure.samples['test']:,} samples: the pick's {sure.name} is known to ±{percent(half)} "
            "points (95 %)."
        )
    if len(front.finalists) > 1:
        yield (
            f"All {len(front.finalists)} finalists were scored on test once: who takes the best of them by their test "
            "accuracy has chosen on it, and then it flatters as well."
        )
    yield (
        "Thresholds and networks were chosen on validation, so validation accuracy flatters; where the test accuracy "
        "falls below the backbone's, the choice did not hold."
    )
    yield (
        "Exit shares, and with them mean costs, hold for data like the validation split: harder inputs leave later, "
        "and an input that passes every exit takes longer than in the backbone alone."
    )
    if front.rest:
        yield (
            f"{len(front.rest)} points of the front are no finalists: they were neither retrained in full nor scored "
            "on test nor measured, and their figures are those of the search."
        )
    if front.knows("latency_ms_mean"):
        yield (
            "Latency is for one image at a time and images in a row, without preprocessing, on "
            f"{profile.name}; an image that comes after a pause finds cold caches and takes longer."
        )
        yield (
            "A predicted latency is composed of blocks that were measured one by one; a measured one is of the "
            "exported file on test images. They were taken at different times: compare predicted with "
            "predicted, measured with measured."
        )
    else:
        yield "No latency was measured: fewer multiply-accumulates need not be faster on the device."
    if summary.get("missed_macs"):
        yield f"{summary['missed_macs']:,} MACs of functional operations in the backbone are in no figure here."
    if front.pick.get("energy_source") == "profile":
        yield "Energy is the active power that the profile gives times the latency: no sensor was read."
    elif front.pick.get("energy_source") is None:
        yield "Energy was not measured: no sensor could be read, and the profile gives no active power."
    if sure.kind == "balanced":
        yield (
            "Accuracies are balanced, the mean over classes of the share of right samples; exit shares and costs are "
            "over samples as they come."
        )
    yield (
        "A mean accuracy hides classes: a network may leave early and be wrong mostly on a few of them; `aebnas "
        "evaluate --per-class` tells of an export, and the example images show some."
    )
