"""What a device was found to have, and what blocks take there, as tables and as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from aebnas.devices.results import Finding, Measurement, NodeProfile
from aebnas.report.tables import plain_table

_OPERATORS_SHOWN = 12


@dataclass(frozen=True)
class MeasuredModel:
    """One model file on a device: its size in MiB, what a run takes, and where the time goes."""

    size_mib: float
    measurement: Measurement
    profile: NodeProfile

    def to_json(self) -> dict[str, Any]:
        """Return all figures; milliseconds by operator type are scaled to the latency."""
        return {
            "size_mib": self.size_mib,
            **asdict(self.measurement),
            "ms_by_operator": self.ms_by_operator,
            "profiled_over_wall": self.profile.inflation,
        }

    @property
    def ms_by_operator(self) -> dict[str, float]:
        """Milliseconds of each operator type, which add up to the latency."""
        total_us = self.profile.wall_us or 1.0
        shares = self.profile.us_by_operator()
        return {op: us / total_us * self.measurement.latency_ms for op, us in shares.items()}


def findings_table(findings: Sequence[Finding], title: str) -> Table:
    """Return what was looked at, what is wrong in red, and what to do."""
    table = plain_table(title)
    for column in ("", "what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        mark = "[green]ok[/green]" if finding.ok else "[red]no[/red]"
        table.add_row(mark, escape(finding.what), escape(finding.text), escape(finding.fix))
    return table


def measurements_table(models: Mapping[str, MeasuredModel]) -> Table:
    """Return a line per model: latency with its interval, median, 95 % quantile, memory, size, energy if known."""
    table = plain_table(
        caption="batch 1, random input, interleaved rounds, profiling off; a network that exits early may take any exit"
    )
    with_energy = any(model.measurement.energy_mj is not None for model in models.values())
    columns = ["model", "p20 ms", "95 % interval", "median ms", "p95 ms", "runs", "peak MiB", "size MiB"]
    for column in [*columns, *(["energy mJ"] if with_energy else [])]:
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, model in models.items():
        table.add_row(escape(name), *_figures(model), *([_energy(model.measurement)] if with_energy else []))
    return table


def _figures(model: MeasuredModel) -> list[str]:
    one = model.measurement
    return [
        f"{one.latency_ms:.4f}",
        f"{one.low_ms:.4f} to {one.high_ms:.4f}{'' if one.steady else ' *'}",
        f"{one.median_ms:.4f}",
        f"{one.p95_ms:.4f}",
        f"{one.runs}",
        "-" if one.peak_memory_mib is None else f"{one.peak_memory_mib:.2f}",
        f"{model.size_mib:.2f}",
    ]


def _energy(one: Measurement) -> str:
    return "-" if one.energy_mj is None else f"{one.energy_mj:.3f} ({one.energy_source})"


def operators_table(models: Mapping[str, MeasuredModel]) -> Table:
    """Return the share of each operator type in each model's time, the largest first."""
    title = "Where the time goes: ms by operator type, scaled to the latency"
    return times_table({name: model.ms_by_operator for name, model in models.items()}, title)


def times_table(shares: Mapping[str, Mapping[str, float]], title: str, caption: str = "") -> Table:
    """Return milliseconds by operator type as a column per model, with their share in its time, the largest first."""
    table = plain_table(title, caption)
    table.add_column("operator")
    for name in shares:
        table.add_column(escape(name), justify="right", overflow="fold")
    total: dict[str, float] = {}
    for share in shares.values():
        for op, ms in share.items():
            total[op] = total.get(op, 0.0) + ms
    ordered = sorted(total, key=lambda op: -total[op])
    for op in ordered[:_OPERATORS_SHOWN]:
        table.add_row(op, *(_share(share.get(op, 0.0), share) for share in shares.values()))
    if rest := ordered[_OPERATORS_SHOWN:]:
        others = (_share(sum(share.get(op, 0.0) for op in rest), share) for share in shares.values())
        table.add_row(f"{len(rest)} others", *others)
    return table


def _share(ms: float, share: Mapping[str, float]) -> str:
    return f"{ms:.4f} ({100 * ms / (sum(share.values()) or 1.0):.0f} %)" if ms else "-"
