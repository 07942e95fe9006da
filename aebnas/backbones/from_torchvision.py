"""Classifiers of torchvision, by the names that torchvision gives them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn

from aebnas.backbones.check import MODEL_ERRORS, reason_of
from aebnas.backbones.classifier import adapt_input, replace_classifier
from aebnas.backbones.library import Asked, cannot_build, import_library, no_such_model
from aebnas.errors import BackboneError
from aebnas.inputs import ModelInput
from aebnas.registry import unknown_name

NAME = "torchvision"
# Classifiers beside the last, which only training would use; weights hold them and models go without them.
AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}


def build(asked: Asked) -> nn.Module:
    """Build a model; see :class:`aebnas.backbones.library.Library`."""
    _check_name(asked.name)
    weights = None if asked.weights is None else _weights(asked.name, asked.weights)
    options = dict(asked.options)
    num_classes = options.pop("num_classes", asked.num_classes)
    if asked.name in AUXILIARY and options.pop("aux_logits", False):
        raise BackboneError(
            f"backbone.options.aux_logits must be false: branches take the place of the auxiliary classifiers of "
            f"{asked.name}"
        )
    if weights is None or not asked.load:
        options = _defaults(asked, weights) | options | {"num_classes": num_classes}
        model = _call(asked, options)
    else:
        model = _download(asked, options, weights)
        if len(weights.meta["categories"]) != num_classes:
            replace_classifier(model, num_classes)
    return _with_channels(model, asked.input_shape[0], trained=weights is not None)


def build_bare(asked: Asked) -> nn.Module:
    """Build a model for images of three channels and the classes asked for, whose weights somebody brings."""
    _check_name(asked.name)
    return _call(asked, _defaults(asked, None) | dict(asked.options) | {"num_classes": asked.num_classes})


def with_channels(model: nn.Module, channels: int) -> nn.Module:
    """Let a trained model take images of ``channels``."""
    return _with_channels(model, channels, trained=True)


def classes_of(name: str, weights: str) -> int:
    """Return how many classes pretrained weights tell apart."""
    return len(_weights(name, weights).meta["categories"])


def wanted(name: str, weights: str, options: Mapping[str, Any]) -> ModelInput:
    """Return how images were prepared for pretrained weights."""
    return input_of(_weights(name, weights).transforms())


def input_of(transforms: Any) -> ModelInput:
    """Return what torchvision's transforms of a classifier do."""
    (side,), (resized,) = transforms.crop_size, transforms.resize_size
    mean, std = tuple(map(float, transforms.mean)), tuple(map(float, transforms.std))
    return ModelInput((side, side), mean, std, str(transforms.interpolation.value), min(1.0, side / resized))


def _check_name(name: str) -> None:
    models = _models()
    names = models.list_models(module=models)
    if name not in names:
        raise no_such_model(NAME, name, names, "torchvision.models.list_models()")


def _weights(name: str, weights: str) -> Any:
    _check_name(name)
    known = _models().get_model_weights(name)
    # Also as torchvision writes it out, ResNet50_Weights.IMAGENET1K_V2; all of its names are in capitals.
    member = weights.rpartition(".")[2].upper()
    if member not in known.__members__:
        raise BackboneError(f"backbone.weights: {unknown_name(f'weights of {name}', weights, known.__members__)}")
    return known[member]


def _defaults(asked: Asked, weights: Any) -> dict[str, Any]:
    """Return options that follow from the data, or from the weights that go with them."""
    side = asked.input_shape[1:] if weights is None else tuple(weights.meta["min_size"])
    found: dict[str, Any] = {}
    if asked.name in AUXILIARY:
        # Weights for these models take images normalised otherwise than the library's others.
        found |= {"aux_logits": False, "init_weights": True, "transform_input": weights is not None}
    if asked.name.startswith("vit_"):
        found["image_size"] = side[0]
    if asked.name.startswith("maxvit"):
        found["input_size"] = side
    return found


def _call(asked: Asked, options: Mapping[str, Any]) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: nn.Module = _models().get_model(asked.name, weights=None, **options)
    except MODEL_ERRORS as error:
        raise cannot_build(NAME, asked, error) from error
    return model


def _download(asked: Asked, options: Mapping[str, Any], weights: Any) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: Any = _models().get_model(asked.name, weights=weights, progress=False, **options)
    except (OSError, HTTPException) as error:
        raise _not_downloaded(asked, weights, reason_of(error)) from error
    except MODEL_ERRORS as error:
        if "invalid hash value" in str(error):
            raise _not_downloaded(asked, weights, "what came is damaged") from error
        raise cannot_build(NAME, asked, error) from error
    for part in AUXILIARY.get(asked.name, ()):
        model.aux_logits = False
        setattr(model, part, None)
    return model  # type: ignore[no-any-return]


def _not_downloaded(asked: Asked, weights: Any, reason: str) -> BackboneError:
    file = PurePosixPath(urlparse(weights.url).path).name
    return BackboneError(
        f"backbone.weights {asked.weights} of {NAME}:{asked.name} cannot be downloaded ({reason}): "
        f"bring {weights.url} here by hand, as {torch.hub.get_dir()}/checkpoints/{file}"
    )


def _with_channels(model: nn.Module, channels: int, *, trained: bool) -> nn.Module:
    if channels != 3 and getattr(model, "transform_input", False):
        raise BackboneError(
            f"these weights of {type(model).__name__} take images of 3 channels and the data have {channels}: "
            "set data.grey to false, or take another backbone"
        )
    adapt_input(model, channels, trained=trained)
    return model


def _models() -> Any:
    return import_library("torchvision").models
