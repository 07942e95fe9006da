"""Reading weights from a file, and loading them into a backbone."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aebnas.backbones.check import reason_of
from aebnas.backbones.classifier import last_layer
from aebnas.errors import BackboneError, MissingExtraError
from aebnas.files import digest

_SAVE_IT = "save it with torch.save(model.state_dict(), ...)"


def load_checkpoint(model: nn.Module, path: Path, *, without: Collection[str] = ()) -> None:
    """Load weights from ``path`` into ``model``; nothing but tensors and plain containers is unpickled.

    The file holds a state_dict, or a dictionary with one under ``state_dict``, ``model`` or ``model_state``; a
    ``module.`` prefix (DataParallel) is dropped. A ``.safetensors`` file holds the tensors themselves.

    Args:
        without: Modules of the file that the model goes without, such as auxiliary classifiers.

    Raises:
        BackboneError: the file is missing, damaged or holds other keys or shapes than the model.
    """
    prefixes = tuple(f"{name}." for name in without)
    state = {key: value for key, value in read_state(path).items() if not key.startswith(prefixes)}
    own = model.state_dict()
    differing = [key for key in own if _differ(state.get(key), own[key])]
    problems = (
        ("lacks", sorted(own.keys() - state.keys())),
        ("has unknown", sorted(state.keys() - own.keys())),
        ("has the wrong shape for", [_shapes(key, state[key], own[key]) for key in differing]),
    )
    found = [f"{what} {_some(keys)}" for what, keys in problems if keys]
    if len(found) == 1 and differing:
        _refuse_other_classifier(model, path, state, differing)
    if found:
        raise BackboneError(f"backbone.checkpoint {path} {', '.join(found)}: give the weights of this very backbone")
    model.load_state_dict(state)


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the state_dict in ``path``.

    Raises:
        BackboneError: the file is missing or damaged, or weights in it are NaN or infinite.
    """
    state = _read_state(path)
    floats = {key: value for key, value in state.items() if isinstance(value, Tensor) and value.is_floating_point()}
    broken = [key for key, value in floats.items() if not value.isfinite().all()]
    if broken:
        raise BackboneError(
            f"backbone.checkpoint {path} has weights that are NaN or infinite in {_some(broken)}: give one of a "
            "training that converged"
        )
    return state


def state_fingerprint(model: nn.Module) -> str:
    """Return 16 hex digits that depend on every name, dtype, shape and byte of the model's state_dict."""
    parts: list[bytes | str] = []
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            content = tensor.detach().cpu().contiguous().reshape(-1)
            parts += [f"{name} {tensor.dtype} {tuple(tensor.shape)}", content.view(torch.uint8).numpy().tobytes()]
    return digest(*parts)


def _refuse_other_classifier(model: nn.Module, path: Path, state: Mapping[str, Tensor], differing: list[str]) -> None:
    name, layer = last_layer(model)
    weight = f"{name}.weight"
    if weight not in differing or not {weight, f"{name}.bias"}.issuperset(differing):
        return
    given = state[weight]
    if isinstance(given, Tensor) and given.shape[1:] == layer.weight.shape[1:]:
        raise BackboneError(
            f"backbone.checkpoint {path} has a classifier for {len(given)} classes and the data set has "
            f"{len(layer.weight)}: give weights that were trained on these classes, or take backbone.name folder, "
            "which puts a new classifier to train in its place"
        )


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        content = _load_safetensors(path) if path.suffix == ".safetensors" else _load_torch(path)
    except FileNotFoundError:
        raise BackboneError(f"backbone.checkpoint {path} does not exist: check the path") from None
    except MissingExtraError:
        raise
    except pickle.UnpicklingError as error:
        # Its text would advise the user to load the file unsafely.
        raise BackboneError(
            f"backbone.checkpoint {path} cannot be read as weights (it is damaged, or holds Python objects beside "
            f"tensors): {_SAVE_IT}"
        ) from error
    except Exception as error:  # torch's readers raise anything on what is no archive
        raise BackboneError(
            f"backbone.checkpoint {path} cannot be read as weights ({reason_of(error)}): {_SAVE_IT}"
        ) from error
    for key in ("state_dict", "model_state", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise BackboneError(f"backbone.checkpoint {path} holds no state_dict: {_SAVE_IT}")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _load_torch(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _load_safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise MissingExtraError("safetensors", "timm") from None
    return load_file(path, device="cpu")


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


def _some(keys: list[str], limit: int = 3) -> str:
    rest = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + rest
