"""The measured comparison of an exported network with its static backbone, as a table."""

from __future__ import annotations

from rich.table import Table

from aebnas.export.evaluate import EvaluationResult


def evaluation_table(result: EvaluationResult) -> Table:
    """Return what was measured, early-exit network beside static backbone."""
    shares = " / ".join(f"{100 * share:.1f}" for share in result.exit_shares)
    table = Table(
        title=f"{result.speedup:.2f} times as fast as the static backbone (mean latency, interleaved in one run)",
        caption=f"{result.samples} samples, batch 1; exit shares {shares} %{_predicted(result)}",
    )
    for column in ("", "accuracy", "mean ms", "p50 ms", "p95 ms"):
        table.add_column(column, justify="right" if column else "left")
    for name, accuracy, latency in (
        ("early-exit network", result.accuracy, result.latency_ms),
        ("static backbone", result.backbone_accuracy, result.backbone_latency_ms),
    ):
        table.add_row(
            name, f"{100 * accuracy:.2f} %", f"{latency.mean:.4f}", f"{latency.p50:.4f}", f"{latency.p95:.4f}"
        )
    return table


def _predicted(result: EvaluationResult) -> str:
    if result.predicted_ms is None:
        return ""
    # No error of it: this may be another device than the one that was searched for.
    return f"; the search predicted {result.predicted_ms:.4f} ms on its device"
