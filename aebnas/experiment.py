"""The experiment: everything that one search depends on, typed and validated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, SkipValidation, field_validator, model_validator
from torch import nn

from aebnas.backbones.settings import BackboneSettings
from aebnas.branches.linked import Cascade
from aebnas.branches.spec import NO_CASCADE, NetworkSpec, Option
from aebnas.data.load import DATASETS
from aebnas.data.settings import DataSettings
from aebnas.data.splits import DataBundle
from aebnas.errors import ExperimentError
from aebnas.exits.accuracy import AccuracyKind
from aebnas.exits.confidence import CONFIDENCES
from aebnas.experiment_compare import CompareSettings
from aebnas.experiment_search import AttachSettings, SearchSettings
from aebnas.plugins import load_plugins
from aebnas.registry import Registry, unknown_name
from aebnas.resources import resource_folder
from aebnas.settings import Settings, parse_settings, read_yaml
from aebnas.training.accelerator import CHOICES
from aebnas.training.log import LogKind
from aebnas.training.objective import WEIGHTINGS
from aebnas.training.regimes import REGIMES, possible, regime_problem
from aebnas.training.settings import BackboneFitSettings, RegimeSettings

CUSTOM = "custom"
# Genes beside the keys of regime; and those keys that decide how much a network is trained, in which all are equal.
GENES = ("confidence", "thresholds", "cascade")
NO_GENES = ("regime.final_epochs", "regime.train_samples", "regime.training.epochs")
EMBEDDED = "digits"


def _known(registry: Registry[Any], name: str) -> str:
    if name not in registry:
        raise ValueError(unknown_name(registry.kind, name, registry))
    return name


class Experiment(Settings):
    """One search: data, backbone, target device, space, regime.

    Example:
        >>> experiment = Experiment(name="mine", model=net, datasets=bundle)  # doctest: +SKIP

    Args:
        model: Your own trained classifier, images ``(N, C, H, W)`` to logits ``(N, classes)``; instead of
            ``backbone``. It is trained first only if ``backbone_training`` is given.
        datasets: Your own data, from :func:`aebnas.bundle_from_datasets`; instead of ``data``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, arbitrary_types_allowed=True)

    name: str = Field(default=EMBEDDED, description="also the run folder: runs/NAME")
    # Seeds are counted up from here, and numpy's end at 2**32.
    seed: int = Field(default=0, ge=0, lt=2**31, description="of the splits, the weights and the sampler")
    plugins: tuple[str, ...] = Field(
        default=(), description="modules or .py files that register layers, heads, regimes or confidences of your own"
    )
    data: DataSettings = DataSettings()
    backbone: BackboneSettings = BackboneSettings()
    backbone_training: BackboneFitSettings | None = Field(
        default=BackboneFitSettings(), description="for a backbone without a checkpoint; null: use it as it is"
    )
    attach: AttachSettings = AttachSettings()
    space: str = Field(default="compact", description="a packaged search space or the path of one")
    regime: RegimeSettings = RegimeSettings()
    confidence: str = Field(default="max-probability", description="see `aebnas list confidences`")
    thresholds: Literal["per-exit", "per-class"] = Field(
        default="per-exit", description="one threshold per exit, or one per exit and predicted class"
    )
    cascade: Cascade = Field(
        default="none", description="what a branch hears of the exit before it: none, inputs, ensemble or both"
    )
    accuracy: AccuracyKind = Field(
        default="plain",
        description="what is tuned, chosen and told by: plain, the share of right samples, or balanced, the mean over "
        "classes of the share of right samples of the class",
    )
    search: SearchSettings = SearchSettings()
    compare: CompareSettings = CompareSettings()
    device: str = Field(default="local", description="a packaged hardware profile or the path of one")
    accelerator: str = Field(default="auto", description="what to train on: auto, cpu, cuda, mps")
    mixed_precision: bool = Field(default=True, description="on CUDA: compute in bfloat16, keep weights in float32")
    cache_gib: float = Field(default=6.0, ge=0, description="disk for features of the frozen backbone")
    cache_dtype: Literal["fp16", "fp32"] = Field(default="fp16", description="what those features are kept in")
    cache_copies: int = Field(
        default=1, ge=1, le=64, description="copies of the training features, each of images augmented anew"
    )
    training_log: LogKind = Field(
        default="csv", description="curves of trainings, kept in the run folder: none, csv or tensorboard"
    )
    model: SkipValidation[nn.Module | None] = Field(default=None, exclude=True, repr=False)
    datasets: SkipValidation[DataBundle | None] = Field(default=None, exclude=True, repr=False)

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError("must begin with a letter or digit and hold nothing but letters, digits and _ . -")
        return name

    @field_validator("confidence")
    @classmethod
    def _confidence(cls, name: str) -> str:
        return _known(CONFIDENCES, name)

    @field_validator("accelerator")
    @classmethod
    def _accelerator(cls, name: str) -> str:
        if name not in CHOICES:
            raise ValueError(unknown_name("accelerator", name, CHOICES))
        return name

    @field_validator("data")
    @classmethod
    def _data(cls, settings: DataSettings) -> DataSettings:
        if settings.name != CUSTOM:
            _known(DATASETS, settings.name)
        return settings

    @field_validator("regime")
    @classmethod
    def _regime(cls, settings: RegimeSettings) -> RegimeSettings:
        _known(REGIMES, settings.name)
        _known(WEIGHTINGS, settings.weighting)
        problem = regime_problem(settings)
        if problem is not None:
            raise ValueError(problem)
        return settings

    @model_validator(mode="after")
    def _known_genes(self) -> Experiment:
        """Try every value that a gene may have, so that none fails a search of hours."""
        for key, values in self.search.genes.items():
            where = f"search.genes.{key}"
            if (key not in GENES and not key.startswith("regime.")) or key in NO_GENES:
                raise ValueError(f"{where} can be no gene: take {', '.join(GENES)} or a key of regime")
            if not values or len(set(map(repr, values))) < len(values):
                raise ValueError(f"{where} needs values, each once")
            for value in values:
                self._check_gene(key, value)
        return self

    def _check_gene(self, key: str, value: Option) -> None:
        """Refuse a value that no network could have, whichever regime it chooses."""
        regimes = [str(name) for name in self.search.genes.get("regime.name", (self.regime.name,))]
        try:
            made = [self.choose({"regime.name": name, key: value}).regime for name in regimes]
        except ExperimentError as error:
            raise ValueError(f"search.genes.{key}: {str(error).removeprefix('the options: ')}") from None
        if key in ("regime.target", "regime.start") and all(getattr(regime, key[7:]) != value for regime in made):
            raise ValueError(f"search.genes.{key}: {value} is nothing that {', '.join(regimes)} can have")

    @model_validator(mode="after")
    def _useful_copies(self) -> Experiment:
        """Refuse copies of features that would all be the same, or that nobody could read."""
        if self.cache_copies == 1:
            return self
        regimes = [REGIMES[str(name)] for name in self.search.genes.get("regime.name", (self.regime.name,))]
        cascades = self.search.genes.get("cascade", (self.cascade,))
        if not self._augments:
            raise ValueError("cache_copies above 1 needs images that differ: set data.augment, or cache_copies to 1")
        if any(regime.kind == "in-order" for regime in regimes) or any(name != NO_CASCADE for name in cascades):
            raise ValueError(
                "cache_copies must be 1 where branches hear of those before them, in regime calex and in cascades"
            )
        if all(regime.kind == "whole" for regime in regimes):
            raise ValueError(
                "cache_copies must be 1 where no regime trains on features of a frozen backbone: disjoint does"
            )
        return self

    @property
    def _augments(self) -> bool:
        """Whether training images are altered; for data that came from Python and is not here, they may be."""
        if self.datasets is not None:
            return self.datasets.train.augment is not None
        return self.data.augment.on or self.data.name == CUSTOM

    @model_validator(mode="before")
    @classmethod
    def _own_objects(cls, values: Any) -> Any:
        """Note in the settings that model or data were given as objects, so that the run folder says so."""
        if not isinstance(values, Mapping):
            return values
        changed = dict(values)
        plugins = changed.get("plugins")
        if isinstance(plugins, (list, tuple)):
            # Before anything is looked up by its name.
            load_plugins(name for name in plugins if isinstance(name, str))
        for key, kind, block in (("model", nn.Module, "backbone"), ("datasets", DataBundle, "data")):
            given = changed.get(key)
            if given is None:
                continue
            if not isinstance(given, kind):
                raise ValueError(f"{key} takes a {kind.__name__} from Python, not {type(given).__name__}")
            changed[block] = {"name": CUSTOM}
            if key == "model":
                changed.setdefault("backbone_training", None)
        return changed

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Load the plug-ins in the process that this is sent to; nothing is validated there."""
        super().__setstate__(state)
        load_plugins(self.plugins)

    @classmethod
    def from_yaml(cls, path: Path | str) -> Experiment:
        """Read an experiment file.

        Raises:
            ExperimentError: the file is missing or wrong; the message names the key.
        """
        values = read_yaml(Path(path), error=ExperimentError)
        if values is None:
            raise ExperimentError(
                f"{path} is empty: name at least data and backbone, or leave the file out for the embedded example"
            )
        return parse_settings(cls, values, source=str(path), error=ExperimentError)._anchored()

    def _anchored(self) -> Experiment:
        """Return a copy whose relative paths are absolute, so that a run can be used from another folder."""

        def absolute(path: Path | None) -> Path | None:
            return None if path is None else path.expanduser().absolute()

        def file(name: str) -> str:
            return str(Path(name).expanduser().absolute()) if name.endswith((".yaml", ".yml")) else name

        def module(name: str) -> str:
            return str(Path(name).expanduser().absolute()) if name.endswith(".py") else name

        data = {"path": absolute(self.data.path), "data_dir": absolute(self.data.data_dir)}
        backbone = {"checkpoint": absolute(self.backbone.checkpoint)}
        runs = [path.expanduser().absolute() for path in self.search.start_from]
        return self.model_copy(
            update={
                "plugins": tuple(map(module, self.plugins)),
                "search": self.search.model_copy(update={"start_from": tuple(runs)}),
                "data": self.data.model_copy(update=data),
                "backbone": self.backbone.model_copy(update=backbone),
                "space": file(self.space),
                "device": file(self.device),
            }
        )

    @classmethod
    def embedded(cls) -> Experiment:
        """Return the default: the digits data set that ships with scikit-learn."""
        return cls.from_yaml(resource_folder("experiments") / f"{EMBEDDED}.yaml")

    def override(self, options: Mapping[str, Any]) -> Experiment:
        """Return a copy with the keys of ``options`` (dotted, ``search.trials``) set, None ones left alone."""
        given = {key: value for key, value in options.items() if value is not None}
        return parse_settings(Experiment, self._with(given), source="the options", error=ExperimentError)

    def _with(self, options: Mapping[str, Any]) -> dict[str, Any]:
        values = self.model_dump()
        for key, value in options.items():
            *path, last = key.split(".")
            block = values
            for part in path:
                # A block that is off or no block is replaced: what its other keys need, validation says.
                if not isinstance(block.get(part), dict):
                    block[part] = {}
                block = block[part]
            block[last] = value
        return values | {"model": self.model, "datasets": self.datasets}

    def of_network(self, spec: NetworkSpec) -> Experiment:
        """Return a copy with the settings that ``spec`` chooses for itself."""
        own = {"regime.name": spec.regime, "confidence": spec.confidence, "cascade": spec.cascade}
        return self.choose({**own, **dict(spec.options)})

    def choose(self, options: Mapping[str, Option]) -> Experiment:
        """Return a copy with ``options``, and without what the regime chosen cannot have: target, start, copies."""
        values = self._with({"search.genes": {}, **options})
        regime = parse_settings(RegimeSettings, values["regime"], source="the options", error=ExperimentError)
        if regime.name in REGIMES:
            values["regime"] = possible(regime).model_dump()
            if REGIMES[regime.name].kind != "alone":
                values["cache_copies"] = 1
        return parse_settings(Experiment, values, source="the options", error=ExperimentError)

    def to_yaml(self) -> str:
        """Return the file that :meth:`from_yaml` reads, every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
