"""From settings to a backbone with its weights."""

from __future__ import annotations

import importlib
import inspect
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aebnas.backbones import convnet, inverted_residual, resnet  # noqa: F401  (they register themselves)
from aebnas.backbones.catalogue import BACKBONES
from aebnas.backbones.check import MODEL_ERRORS, check_forward
from aebnas.backbones.settings import BackboneSettings
from aebnas.errors import BackboneError
from aebnas.files import digest
from aebnas.inputs import ModelInput
from aebnas.registry import unknown_name

__all__ = ["BACKBONES", "build_backbone", "load_checkpoint", "state_fingerprint", "wanted_input"]

_SAVE_IT = "save it with torch.save(model.state_dict(), ...)"


def build_backbone(settings: BackboneSettings, *, num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    """Build the backbone that ``settings`` names, load its checkpoint, and check that it gives (N, num_classes).

    A ``package.module:callable`` is called with the options, and with ``num_classes`` and ``input_shape`` as far as
    its signature has them (``num_classes`` also where it takes any keyword).

    Raises:
        BackboneError: the name, an option or the checkpoint is wrong, or the model is no such classifier.
    """
    factory = _import_callable(settings.name) if ":" in settings.name else BACKBONES[settings.name]
    model = _call(factory, settings, num_classes, input_shape)
    if settings.checkpoint is not None:
        load_checkpoint(model, settings.checkpoint)
    classes = check_forward(model, input_shape)
    if classes != num_classes:
        raise BackboneError(
            f"backbone.name {settings.name!r} gives {classes} classes and the data set has {num_classes}: "
            f"let the callable take num_classes, or set it under backbone.options"
        )
    return model


def wanted_input(settings: BackboneSettings) -> ModelInput | None:
    """Return how the backbone that ``settings`` names wants its images prepared; None where it does not say."""
    return None


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Load weights from ``path`` into ``model``; nothing but tensors and plain containers is unpickled.

    The file holds a state_dict, or a dictionary with one under ``state_dict``, ``model`` or ``model_state``; a
    ``module.`` prefix (DataParallel) is dropped.

    Raises:
        BackboneError: the file is missing, damaged or holds other keys or shapes than the model.
    """
    state = _read_state(path)
    own = model.state_dict()
    problems = (
        ("lacks", sorted(own.keys() - state.keys())),
        ("has unknown", sorted(state.keys() - own.keys())),
        ("has the wrong shape for", [_shapes(k, state[k], own[k]) for k in own if _differ(state.get(k), own[k])]),
    )
    found = [f"{what} {_some(keys)}" for what, keys in problems if keys]
    if found:
        raise BackboneError(f"backbone.checkpoint {path} {', '.join(found)}: give the weights of this very backbone")
    floats = {key: value for key, value in state.items() if isinstance(value, Tensor) and value.is_floating_point()}
    broken = [key for key, value in floats.items() if not value.isfinite().all()]
    if broken:
        raise BackboneError(
            f"backbone.checkpoint {path} has weights that are NaN or infinite in {_some(broken)}: give one of a "
            "training that converged"
        )
    model.load_state_dict(state)


def state_fingerprint(model: nn.Module) -> str:
    """Return 16 hex digits that depend on every name, dtype, shape and byte of the model's state_dict."""
    parts: list[bytes | str] = []
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            content = tensor.detach().cpu().contiguous().reshape(-1)
            parts += [f"{name} {tensor.dtype} {tuple(tensor.shape)}", content.view(torch.uint8).numpy().tobytes()]
    return digest(*parts)


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
            f"backbone.name {name!r}: importing {module_name!r} fails ({_reason(error)}): repair that module"
        ) from error
    for part in path.split("."):
        if not hasattr(target, part):
            public = [entry for entry in vars(target) if not entry.startswith("_")]
            raise BackboneError(f"backbone.name {name!r}: {unknown_name('attribute', part, public)}")
        target = getattr(target, part)
    if not callable(target):
        raise BackboneError(f"backbone.name {name!r} is a {type(target).__name__}: name a callable that gives a model")
    return target  # type: ignore[no-any-return]


def _call(
    factory: Callable[..., Any], settings: BackboneSettings, num_classes: int, input_shape: tuple[int, ...]
) -> nn.Module:
    arguments: dict[str, Any] = dict(settings.options)
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:
        raise BackboneError(f"backbone.name {settings.name!r} has no signature: name a Python function") from error
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if "num_classes" in parameters or any_keyword:
        arguments.setdefault("num_classes", num_classes)
    if "input_shape" in parameters:
        arguments.setdefault("input_shape", input_shape)
    unknown = [] if any_keyword else [key for key in settings.options if key not in parameters]
    if unknown:
        known = [key for key in parameters if key not in ("num_classes", "input_shape")]
        raise BackboneError(f"backbone.options: {unknown_name(f'option of {settings.name}', unknown[0], known)}")
    try:
        model = factory(**arguments)
    except MODEL_ERRORS as error:
        raise BackboneError(
            f"backbone.name {settings.name!r} cannot be built with options {settings.options} ({_reason(error)}): "
            "correct backbone.options"
        ) from error
    if not isinstance(model, nn.Module):
        raise BackboneError(f"backbone.name {settings.name!r} gives a {type(model).__name__}: let it give an nn.Module")
    return model


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BackboneError(f"backbone.checkpoint {path} does not exist: check the path") from None
    except pickle.UnpicklingError as error:
        # Its text would advise the user to load the file unsafely.
        raise BackboneError(
            f"backbone.checkpoint {path} cannot be read as weights (it is damaged, or holds Python objects beside "
            f"tensors): {_SAVE_IT}"
        ) from error
    except Exception as error:  # torch's readers raise anything on what is no archive
        raise BackboneError(
            f"backbone.checkpoint {path} cannot be read as weights ({_reason(error)}): {_SAVE_IT}"
        ) from error
    for key in ("state_dict", "model_state", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise BackboneError(f"backbone.checkpoint {path} holds no state_dict: {_SAVE_IT}")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _differ(given: Any, own: Any) -> bool:
    if given is None or not isinstance(own, Tensor):
        return given is not None and type(given) is not type(own)
    return not isinstance(given, Tensor) or given.shape != own.shape or given.is_complex() != own.is_complex()


def _shapes(key: str, given: Any, own: Any) -> str:
    return f"{key} ({_form(given)} instead of {_form(own)})"


def _form(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{'complex ' if value.is_complex() else ''}{tuple(value.shape)}"


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__


def _some(keys: list[str], limit: int = 3) -> str:
    rest = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + rest
