"""The measured comparison of an exported network with its static backbone, as a table."""

from __future__ import annotations

from rich.table import Table

from aebnas.export.evaluate import EvaluationResult
from aebnas.report.describe import percent


def evaluation_table(result: EvaluationResult) -> Table:
    """Return what was measured, early-exit network beside static backbone."""
    shares = " / ".join(f"{100 * share:.1f}" for share in result.exit_shares)
    table = Table(
        title=f"{result.speedup:.2f} times as fast as the static backbone (mean latency, interleaved in one run)",
        caption=f"{result.samples} samples, batch 1; exit shares {shares} %{_predicted(result)}{_absent(result)}",
    )
    for column in ("", "accuracy", "balanced", "mean ms", "p50 ms", "p95 ms"):
        table.add_column(column, justify="right" if column else "left")
    for name, accuracy, balanced, latency in (
        ("early-exit network", result.accuracy, result.balanced_accuracy, result.latency_ms),
        ("static backbone", result.backbone_accuracy, result.backbone_balanced_accuracy, result.backbone_latency_ms),
    ):
        times = (f"{value:.4f}" for value in (latency.mean, latency.p50, latency.p95))
        table.add_row(name, *(f"{percent(value)} %" for value in (accuracy, balanced)), *times)
    return table


def _absent(result: EvaluationResult) -> str:
    absent = sum(not one.samples for one in result.classes)
    if not absent:
        return ""
    return f"; balanced accuracy leaves out {absent} of {len(result.classes)} classes, without a sample here"


def _predicted(result: EvaluationResult) -> str:
    if result.predicted_ms is None:
        return ""
    # No error of it: this may be another device than the one that was searched for.
    return f"; the search predicted {result.predicted_ms:.4f} ms on its device"
