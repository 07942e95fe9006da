"""How long, with what and where to search: the block ``search`` of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from aebnas.branches.spec import Option
from aebnas.costs.kinds import COSTS, LATENCY
from aebnas.devices.profile import Limits
from aebnas.registry import unknown_name
from aebnas.settings import Settings

SAMPLERS = ("tpe", "nsga2", "nsga3", "gp", "random")


class AttachSettings(Settings):
    """Where exits may hang."""

    points: int = Field(default=6, ge=1, le=16, description="most attach points to offer, spread evenly over MACs")
    modules: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="names of modules to attach to instead"
    )


class TargetSettings(Settings):
    """A wish for one cost."""

    cost: str = Field(default=LATENCY, description=", ".join(COSTS))
    value: float = Field(gt=0, description="in the cost's unit: MACs, ms, mJ, MiB")
    rule: Literal["at-most", "two-sided"] = Field(
        default="at-most", description="at-most: no more than the value; two-sided: near it, AEBNAS's own rule"
    )
    min_accuracy: float | None = Field(default=None, ge=0, le=1, description="floor of the validation accuracy, 0 to 1")

    @field_validator("cost")
    @classmethod
    def _known_cost(cls, name: str) -> str:
        if name not in COSTS:
            raise ValueError(unknown_name("cost", name, COSTS))
        return name


class SearchSettings(Settings):
    """How long and with what to search."""

    trials: int = Field(default=60, ge=1, description="networks to evaluate, those of earlier runs of it included")
    timeout: float | None = Field(default=None, gt=0, description="seconds after which no trial starts")
    workers: int = Field(default=1, ge=1, description="processes that run trials; threads are divided among them")
    storage: str | None = Field(
        default=None,
        description="URL of the study's database, postgresql://...; null: a file in the run folder",
    )
    study: str | None = Field(default=None, description="its name in that database; null: the experiment's name")
    artifacts: str | None = Field(
        default=None,
        description="folder or s3://bucket/prefix that machines share files through",
    )
    sampler: Literal["tpe", "nsga2", "nsga3", "gp", "random"] = Field(
        default="tpe", description="what proposes networks: Optuna's samplers of these names"
    )
    population: int = Field(default=16, ge=2, description="of nsga2 and nsga3")
    starts: bool = Field(default=False, description="begin with known shapes: exits at even cost, bare heads ...")
    start_from: tuple[Path, ...] = Field(default=(), description="earlier runs whose best networks are tried first")
    rungs: bool = Field(default=True, description="stop training what cannot reach the front any more")
    recombine: int = Field(
        default=1,
        ge=0,
        description="networks of branches that are trained already, for each trial that samples one",
    )
    surrogate: bool = Field(default=False, description="choose among samples by a model of what is finished")
    genes: dict[str, tuple[Option, ...]] = Field(
        default_factory=dict,
        description="settings that each network chooses for itself: key -> values, such as regime.name, "
        "regime.weighting, confidence or cascade",
    )
    objectives: tuple[str, ...] = Field(
        default=("accuracy", LATENCY), description=f"accuracy and any of {', '.join(COSTS)}"
    )
    target: TargetSettings | None = Field(default=None, description="a wish for one cost; null: none")
    limits: Limits = Field(default=Limits(), description="beside those of the device; where both limit, these count")
    grid: int = Field(default=20, ge=2, le=200, description="thresholds per exit that are compared")
    finalists: int = Field(
        default=4,
        ge=1,
        description="networks of the front that are retrained, measured and scored on test: each at the point it was "
        "chosen for and where it keeps the backbone's accuracy, and the static networks beside them",
    )
    accuracy_drop: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="validation accuracy (0 to 1) the default pick may lose against the backbone",
    )

    @field_validator("objectives")
    @classmethod
    def _known_objectives(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = ("accuracy", *COSTS)
        for name in names:
            if name not in known:
                raise ValueError(unknown_name("objective", name, known))
        if "accuracy" not in names or len(set(names)) != len(names) or len(names) < 2:
            raise ValueError(f"name accuracy and at least one of {', '.join(COSTS)}, each once")
        return names

    @property
    def cost_objectives(self) -> tuple[str, ...]:
        """The objectives that are costs; the first is the one that fronts are drawn over."""
        return tuple(name for name in self.objectives if name != "accuracy")
