"""Classifiers of timm, by the names that timm gives them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from torch import Tensor, nn

from aebnas.backbones.check import MODEL_ERRORS, reason_of
from aebnas.backbones.library import Asked, cannot_build, import_library, no_such_model
from aebnas.errors import BackboneError
from aebnas.hub import reached_or_offline
from aebnas.inputs import ModelInput
from aebnas.registry import unknown_name

NAME = "timm"
DEFAULT = "default"
# Where timm would look for weights; those of a folder are at hand.
_SOURCES = ("url", "file", "hf_hub_id", "hf_hub_filename", "source", "state_dict", "custom_load")


def build(asked: Asked) -> nn.Module:
    """Build a model; see :class:`aebnas.backbones.library.Library`."""
    timm = _timm(asked.name)
    config = _config(asked.name, asked.weights)
    options = _defaults(asked, config.fixed_input_size if config else False) | dict(asked.options)
    tag = config.tag if config and asked.weights is not None else None

    def create(pretrained: bool) -> nn.Module:
        return timm.create_model(asked.name, pretrained=pretrained, pretrained_cfg=tag, **options)  # type: ignore[no-any-return]

    load = asked.weights is not None and asked.load
    with reached_or_offline() if load and config.hf_hub_id else contextlib.nullcontext("") as problem:
        try:
            return create(load)
        except MODEL_ERRORS as error:
            try:
                create(False)
            except MODEL_ERRORS as other:
                raise cannot_build(NAME, asked, other) from other
            raise _not_downloaded(asked, config, problem or reason_of(error)) from error


def build_from_state(
    asked: Asked, state: Mapping[str, Tensor] | None, given: Mapping[str, Any], classes: int
) -> nn.Module:
    """Build a model with the weights ``state`` of one for ``classes``, which ``given`` describes as timm does.

    None: the same model, but whoever asks brings its weights.
    """
    timm = _timm(asked.name)
    registered = _config(asked.name, None)
    known = {} if registered is None else {field.name for field in fields(registered)}
    # What the folder says of its weights, and what timm says of such models.
    config = (
        {} if registered is None else {key: value for key, value in asdict(registered).items() if value is not None}
    )
    config |= {key: _tuple(value) for key, value in given.items() if key in known}
    options = dict(asked.options)
    if "in_chans" in options:  # of the weights; the model takes those of the data
        config["input_size"] = (options.pop("in_chans"), *config.get("input_size", (3, 224, 224))[1:])
    config = {key: value for key, value in config.items() if key not in _SOURCES} | {"num_classes": classes}
    options = _defaults(asked, bool(config.get("fixed_input_size"))) | options | {"num_classes": classes}
    try:
        model = timm.create_model(
            asked.name,
            pretrained=state is not None,
            pretrained_cfg=config if state is None else config | {"state_dict": dict(state)},
            **options,
        )
    except MODEL_ERRORS as error:
        raise cannot_build(NAME, asked, error) from error
    if state is not None:
        model.pretrained_cfg.pop("state_dict", None)
    if classes != asked.num_classes:
        model.reset_classifier(asked.num_classes)
    return model  # type: ignore[no-any-return]


def classes_of(name: str, weights: str) -> int:
    """Return how many classes pretrained weights tell apart."""
    return int(_config(name, weights).num_classes)


def wanted(name: str, weights: str, options: Mapping[str, Any]) -> ModelInput:
    """Return how images were prepared for pretrained weights."""
    return input_of(_config(name, weights).to_dict(), options)


def input_of(config: Mapping[str, Any], options: Mapping[str, Any]) -> ModelInput:
    """Return what timm's description of weights says of images; ``options`` may set another size."""
    found = import_library("timm").data.resolve_data_config({}, pretrained_cfg=dict(config))
    size = options.get("img_size", found["input_size"][1:])
    height, width = (size, size) if isinstance(size, int) else size
    mean, std = (tuple(map(float, found[key])) for key in ("mean", "std"))
    return ModelInput((int(height), int(width)), mean, std, str(found["interpolation"]), float(found["crop_pct"]))


def _timm(name: str) -> Any:
    timm = import_library("timm")
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise no_such_model(NAME, name, timm.list_models(), "timm.list_models()")
    if tag:
        raise BackboneError(
            f"backbone.name {NAME}:{name} names weights as well: take {NAME}:{architecture}, and {tag} as "
            "backbone.weights"
        )
    return timm


def _config(name: str, weights: str | None) -> Any:
    """Return timm's description of weights, those it would take by itself where none are named; None without any."""
    timm = _timm(name)
    if weights is None:
        return timm.models.get_pretrained_cfg(name)
    tags = [full.partition(".")[2] for full in timm.list_models(f"{name}.*", pretrained=True)]
    default = timm.models.get_pretrained_cfg(name)
    if default is not None and default.has_weights:
        tags.append(DEFAULT)
    if not tags:
        raise BackboneError(f"backbone.weights: timm has no pretrained weights of {name}: leave weights out")
    if weights not in tags:
        raise BackboneError(f"backbone.weights: {unknown_name(f'weights of {name}', weights, tags)}")
    return default if weights == DEFAULT else timm.models.get_pretrained_cfg(f"{name}.{weights}")


def _defaults(asked: Asked, fixed_size: bool) -> dict[str, Any]:
    """Return options that follow from the data; models that fix their input's size, as most of tokens do, take it."""
    channels, *size = asked.input_shape
    found = {"num_classes": asked.num_classes, "in_chans": channels}
    return found | ({"img_size": tuple(size)} if fixed_size else {})


def _not_downloaded(asked: Asked, config: Any, reason: str) -> BackboneError:
    where = f"the repository {config.hf_hub_id}" if config.hf_hub_id else config.url
    return BackboneError(
        f"backbone.weights {asked.weights} of {NAME}:{asked.name} cannot be downloaded or loaded ({reason}): "
        f"bring {where} here by hand, as a folder with config.json and the file of weights, and name it as "
        "backbone.checkpoint with backbone.name folder"
    )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
