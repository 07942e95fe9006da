"""From settings to a backbone with its weights."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from aebnas.backbones import (  # noqa: F401  (those of ours register themselves)
    convnet,
    from_timm,
    from_torchvision,
    inverted_residual,
    resnet,
)
from aebnas.backbones.catalogue import BACKBONES
from aebnas.backbones.check import MODEL_ERRORS, check_forward, reason_of
from aebnas.backbones.folder import FOLDER, ModelFolder, build_from_folder, read_folder
from aebnas.backbones.library import Asked, Library
from aebnas.backbones.settings import BackboneSettings
from aebnas.backbones.weights import load_checkpoint, state_fingerprint
from aebnas.errors import BackboneError
from aebnas.inputs import ModelInput
from aebnas.registry import unknown_name

__all__ = [
    "BACKBONES",
    "build_backbone",
    "comes_trained",
    "has_new_classifier",
    "load_checkpoint",
    "state_fingerprint",
    "wanted_input",
]

_LIBRARIES: Mapping[str, Library] = {"torchvision": from_torchvision, "timm": from_timm}


def build_backbone(
    settings: BackboneSettings, *, num_classes: int, input_shape: tuple[int, ...], load: bool = True
) -> nn.Module:
    """Build the backbone that ``settings`` names with its weights, and check that it gives (N, num_classes).

    ``torchvision:NAME`` and ``timm:NAME`` are models of these libraries, ``folder`` is one that a folder describes. A
    ``package.module:callable`` is called with the options, and with ``num_classes`` and ``input_shape`` as far as
    its signature has them (``num_classes`` also where it takes any keyword). Pretrained weights for other classes get
    a new classifier.

    Args:
        load: False: weights are neither read nor downloaded; whoever asks brings them.

    Raises:
        BackboneError: the name, an option or the weights are wrong, or the model is no such classifier.
        MissingExtraError: the library is not installed.
    """
    if (settings.library or settings.name == FOLDER) and len(input_shape) != 3:
        raise BackboneError(f"backbone.name {settings.name!r} takes images (C, H, W), not input of shape {input_shape}")
    model = _build(settings, num_classes, input_shape, load)
    if load and settings.checkpoint is not None and settings.name != FOLDER:
        without = from_torchvision.AUXILIARY.get(settings.name.partition(":")[2], ())
        load_checkpoint(model, settings.checkpoint, without=without)
    classes = check_forward(model, input_shape)
    if classes != num_classes:
        raise BackboneError(
            f"backbone.name {settings.name!r} gives {classes} classes and the data set has {num_classes}: "
            f"let the callable take num_classes, or set it under backbone.options"
        )
    return model


def wanted_input(settings: BackboneSettings) -> ModelInput | None:
    """Return how the backbone that ``settings`` names wants its images prepared; None where it does not say.

    Pretrained weights say so; nothing is downloaded for it.

    Raises:
        BackboneError: there are no such weights. MissingExtraError: their library is not installed.
    """
    if settings.name == FOLDER:
        return _folder(settings).wanted(settings.options)
    if settings.weights is None:
        return None
    return _LIBRARIES[settings.library].wanted(_name(settings), settings.weights, settings.options)


def comes_trained(settings: BackboneSettings, num_classes: int) -> bool:
    """Tell whether the backbone needs no training: it comes with weights, and they tell these classes apart."""
    given = settings.weights is not None or settings.checkpoint is not None
    return given and not has_new_classifier(settings, num_classes)


def has_new_classifier(settings: BackboneSettings, num_classes: int) -> bool:
    """Tell whether the weights are pretrained on other classes, so that the classifier is a new, untrained one."""
    if settings.name == FOLDER:
        classes = _folder(settings).num_classes
        return classes is not None and classes != num_classes
    if settings.weights is None:
        return False
    return _LIBRARIES[settings.library].classes_of(_name(settings), settings.weights) != num_classes


def _build(settings: BackboneSettings, num_classes: int, input_shape: tuple[int, ...], load: bool) -> nn.Module:
    if settings.name == FOLDER:
        folder = _folder(settings)
        asked = folder.asked(settings.options, input_shape, num_classes, load)
        return build_from_folder(folder, asked, lambda own: _call(BACKBONES[own.name], own))
    asked = Asked(settings.name, settings.options, settings.weights, num_classes, input_shape, load)
    if settings.library:
        asked = Asked(_name(settings), settings.options, settings.weights, num_classes, input_shape, load)
        return _LIBRARIES[settings.library].build(asked)
    return _call(_import_callable(settings.name) if ":" in settings.name else BACKBONES[settings.name], asked)


def _name(settings: BackboneSettings) -> str:
    return settings.name.partition(":")[2]


def _folder(settings: BackboneSettings) -> ModelFolder:
    assert settings.checkpoint is not None  # settings without one are refused
    return read_folder(settings.checkpoint)


def _import_callable(name: str) -> Callable[..., Any]:
    module_name, _, path = name.partition(":")
    try:
        target: Any = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise BackboneError(
            f"backbone.name {name!r}: cannot import {module_name!r} ({error}); "
            "install it, or add its folder to PYTHONPATH"
        ) from error
    except MODEL_ERRORS as error:
        raise BackboneError(
            f"backbone.name {name!r}: importing {module_name!r} fails ({reason_of(error)}): repair that module"
        ) from error
    for part in path.split("."):
        if not hasattr(target, part):
            public = [entry for entry in vars(target) if not entry.startswith("_")]
            raise BackboneError(f"backbone.name {name!r}: {unknown_name('attribute', part, public)}")
        target = getattr(target, part)
    if not callable(target):
        raise BackboneError(f"backbone.name {name!r} is a {type(target).__name__}: name a callable that gives a model")
    return target  # type: ignore[no-any-return]


def _call(factory: Callable[..., Any], asked: Asked) -> nn.Module:
    arguments: dict[str, Any] = dict(asked.options)
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:
        raise BackboneError(f"backbone.name {asked.name!r} has no signature: name a Python function") from error
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if "num_classes" in parameters or any_keyword:
        arguments.setdefault("num_classes", asked.num_classes)
    if "input_shape" in parameters:
        arguments.setdefault("input_shape", asked.input_shape)
    unknown = [] if any_keyword else [key for key in asked.options if key not in parameters]
    if unknown:
        known = [key for key in parameters if key not in ("num_classes", "input_shape")]
        raise BackboneError(f"backbone.options: {unknown_name(f'option of {asked.name}', unknown[0], known)}")
    try:
        model = factory(**arguments)
    except MODEL_ERRORS as error:
        raise BackboneError(
            f"backbone.name {asked.name!r} cannot be built with options {dict(asked.options)} ({reason_of(error)}): "
            "correct backbone.options"
        ) from error
    if not isinstance(model, nn.Module):
        raise BackboneError(f"backbone.name {asked.name!r} gives a {type(model).__name__}: let it give an nn.Module")
    return model
