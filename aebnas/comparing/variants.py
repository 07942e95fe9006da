"""Variants: one regime with the settings in which it differs from the experiment's own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from aebnas.errors import ExperimentError
from aebnas.experiment import Experiment
from aebnas.files import canonical_json, digest
from aebnas.registry import unknown_name
from aebnas.settings import Settings
from aebnas.training.regimes import REGIMES, matters, regime_problem
from aebnas.training.settings import RegimeSettings

REGIME = "regime.name"
# Of the experiment itself, what a variant may choose: how its exits decide and what they hear of each other.
_DECIDING = ("confidence", "thresholds", "cascade")
# What a comparison holds equal, or does without.
_EQUAL = ("name", "final_epochs", "train_samples", "training.epochs", "training.patience")


@dataclass(frozen=True)
class Variant:
    """One training method of a comparison.

    Args:
        name: As it was written; short, for tables and files.
        experiment: With all settings of the variant.
    """

    name: str
    experiment: Experiment

    @property
    def training_key(self) -> str:
        """A hash of what training depends on: variants that differ in thresholds alone train once."""
        # No variant trains for them, so they are taken as they come.
        regime = self.experiment.regime.model_copy(update={"final_epochs": RegimeSettings().final_epochs})
        settings = {**regime.model_dump(mode="json"), "training": regime.training.about()}
        gates = self.experiment.confidence if "confidence" in REGIMES[self.experiment.regime.name].uses else None
        return digest(canonical_json([settings, self.experiment.cascade, gates]))

    @property
    def key(self) -> str:
        """A hash of all its settings."""
        return digest(self.training_key, self.experiment.confidence, self.experiment.thresholds)


def parse_variants(words: Iterable[str], base: Experiment) -> tuple[Variant, ...]:
    """Read variants, each ``NAME`` or ``NAME:key=value+key=value``.

    A key is looked up in the regime's own block (``regime.sequential.*``), then in ``regime.*``, then among
    confidence, thresholds and cascade.

    Raises:
        ExperimentError: a regime, key or value is unknown, or a variant stands there twice.
    """
    variants = tuple(_parse(word.strip(), base) for word in words if word.strip())
    names = [variant.name for variant in variants]
    if not names:
        raise ExperimentError("there is nothing to compare: name regimes, --regimes disjoint,joint,mixed, say")
    for first, second in itertools.combinations(variants, 2):
        if first.key == second.key:
            raise ExperimentError(f"variants {first.name!r} and {second.name!r} are the same: drop one")
    return variants


def crossed(words: Sequence[str], choices: Mapping[str, Sequence[str]], base: Experiment) -> list[str]:
    """Return ``words``, each with every combination of ``choices`` (key -> values) that has an effect on it added.

    Raises:
        ExperimentError: a regime or value is unknown, or a key has an effect on none of them.
    """
    found, used = [], set()
    for word in words:
        regime, _, own = word.strip().partition(":")
        _require_regime(regime, word)
        useful = {key: values for key, values in choices.items() if _fits(key, regime, own)}
        for values in itertools.product(*useful.values()):
            pairs = dict(zip(useful, values, strict=True))
            if pairs:
                settings = _read(_word(regime, own, pairs), base)[0].experiment.regime
                # A temperature, say, counts beside one target and not beside another.
                pairs = {key: value for key, value in pairs.items() if _counts(settings, _place(key, regime))}
            used |= set(pairs)
            found.append(_word(regime, own, pairs))
    for key in choices:
        if not any(_place(key, regime) for regime in REGIMES):
            raise ExperimentError(unknown_name("key", key, dict.fromkeys(itertools.chain(*map(_known_keys, REGIMES)))))
        if key not in used:
            raise ExperimentError(f"{key} has no effect on any of {', '.join(words)}: drop it")
    return list(dict.fromkeys(found))


def _word(regime: str, own: str, pairs: Mapping[str, str]) -> str:
    added = [f"{key}={value}" for key, value in pairs.items()]
    return ":".join(filter(None, [regime, "+".join([*filter(None, [own]), *added])]))


def _fits(key: str, regime: str, own: str) -> bool:
    """Tell whether a key may be added to a variant: its regime has it, and the variant does not set it already."""
    place = _place(key, regime)
    set_already = {_place(pair.partition("=")[0].strip(), regime) for pair in own.split("+")}
    return place is not None and place not in set_already and _has(regime, place)


def _has(regime: str, place: str) -> bool:
    """Tell whether the setting of an experiment at ``place`` can have an effect under a regime at all."""
    block, _, key = place.partition(".")
    return block != "regime" or key.startswith("training.") or key in REGIMES[regime].uses


def _counts(settings: RegimeSettings, place: str | None) -> bool:
    """Tell whether the setting of an experiment at ``place`` has an effect beside the others."""
    block, _, key = (place or "").partition(".")
    return block != "regime" or matters(settings, key)


def _require_regime(regime: str, word: str) -> None:
    if regime not in REGIMES:
        raise ExperimentError(f"variant {word!r}: {unknown_name('regime', regime, REGIMES)}")


def _parse(word: str, base: Experiment) -> Variant:
    variant, places = _read(word, base)
    for key, place in places.items():
        if not _counts(variant.experiment.regime, place):
            raise ExperimentError(f"variant {word!r}: {key} has no effect beside its other settings: leave it out")
    return variant


def _read(word: str, base: Experiment) -> tuple[Variant, dict[str, str]]:
    """Return a variant, and the places in the experiment of the keys that stand there."""
    regime, _, text = word.partition(":")
    _require_regime(regime, word)
    options: dict[str, Any] = {REGIME: regime}
    places: dict[str, str] = {}
    for pair in filter(None, text.split("+")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ExperimentError(f"variant {word!r}: {pair!r} is no key=value: write {regime}:key=value+key=value")
        place = _place(key.strip(), regime)
        if place is None:
            raise ExperimentError(f"variant {word!r}: {unknown_name('key', key, _known_keys(regime))}")
        if place.removeprefix("regime.") in _EQUAL:
            raise ExperimentError(f"variant {word!r}: {key} is the same for all variants: leave it out")
        if not _has(regime, place):
            raise ExperimentError(f"variant {word!r}: {key} has no effect under {regime}: leave it out")
        if place in options:
            raise ExperimentError(f"variant {word!r}: {key} stands there twice: drop one")
        places[key.strip()] = place
        options[place] = _value(value, f"variant {word!r}: {key}")
    try:
        variant = Variant(word, base.override(options))
    except ExperimentError as error:
        raise ExperimentError(f"variant {word!r}: {str(error).removeprefix('the options: ')}") from None
    problem = regime_problem(variant.experiment.regime)
    if problem is not None:
        raise ExperimentError(f"variant {word!r}: {problem}")
    return variant, places


def _value(text: str, where: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        value = None
    if value is None:
        raise ExperimentError(f"{where} has no value: write a number, a name, true or false")
    return value


def _place(key: str, regime: str) -> str | None:
    """Return the dotted key of the experiment that ``key`` means in a variant of ``regime``, None if it has none."""
    own = _own_block(regime)
    if key in own:
        return own[key]
    plain = key.removeprefix("regime.")
    if plain in _keys(RegimeSettings):
        return f"regime.{plain}"
    return key if key in _DECIDING else None


def _own_block(regime: str) -> dict[str, str]:
    """Return the keys of the regime's own block, and their places in the experiment."""
    block = regime.split("-", maxsplit=1)[0]
    field = RegimeSettings.model_fields.get(block)
    return {} if field is None else {key: f"regime.{block}.{key}" for key in _keys(field.annotation)}


def _known_keys(regime: str) -> list[str]:
    shared = [key for key in _keys(RegimeSettings) if key not in _EQUAL and _has(regime, f"regime.{key}")]
    return list(dict.fromkeys([*_own_block(regime), *shared, *_DECIDING]))


def _keys(kind: Any) -> list[str]:
    """Return the dotted keys of a settings block, those of the blocks in it too."""
    if not (isinstance(kind, type) and issubclass(kind, Settings)):
        return []
    found = []
    for name, field in kind.model_fields.items():
        inside = _keys(field.annotation)
        found += [f"{name}.{key}" for key in inside] or [name]
    return found
