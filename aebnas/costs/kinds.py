"""The kinds of cost: what each is called, its unit, where its figures stand, and whether it is a mean or a tail."""

from __future__ import annotations

from dataclasses import dataclass

MACS, LATENCY, TAIL, ENERGY = "macs", "latency_ms", "latency_p95_ms", "energy_mj"
SIZE, MEMORY = "model_mib", "peak_memory_mib"


@dataclass(frozen=True)
class CostKind:
    """One kind of cost.

    Args:
        name: As objectives, targets and limits name it; it ends in the unit of its values.
        label: For people.
        unit: For people, of a value divided by ``scale``.
        column: Of the front; what is predicted.
        measured: Of the front; the same, measured on whole networks. None where nothing is: MACs are exact, energy is
            measured block by block, and the growth of a process is more than weights and arena.
        limit: Its key under ``limits``.
        scale: What one of ``unit`` is worth: MACs are counted one by one and spoken of in millions.
        device: It takes a device that can be measured.
    """

    name: str
    label: str
    unit: str
    column: str
    measured: str | None
    limit: str
    scale: float = 1.0
    device: bool = True

    def text(self, value: float) -> str:
        """Return ``value``, in the cost's own unit, for people."""
        return f"{value / self.scale:.4g} {self.unit}"


KINDS = (
    CostKind(MACS, "mean multiply-accumulates", "M MACs", "macs_mean", None, "macs_m", 1e6, device=False),
    CostKind(LATENCY, "mean latency", "ms", "latency_ms_mean", "latency_ms_measured", "latency_ms"),
    CostKind(TAIL, "95 % quantile of the latency", "ms", "latency_ms_p95", "latency_ms_p95_measured", "latency_p95_ms"),
    CostKind(ENERGY, "mean energy", "mJ", "energy_mj_mean", None, "energy_mj"),
    CostKind(SIZE, "model size", "MiB", "model_mib", "model_mib_measured", "model_mib", device=False),
    CostKind(MEMORY, "peak memory", "MiB", "peak_memory_mib", None, "peak_memory_mib"),
)
COSTS = {kind.name: kind for kind in KINDS}
BY_LIMIT = {kind.limit: kind for kind in KINDS}
