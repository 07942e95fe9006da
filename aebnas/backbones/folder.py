"""A folder that holds a trained classifier: ``config.json`` says which, one file beside it holds its weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from aebnas.backbones import from_timm, from_torchvision
from aebnas.backbones.catalogue import BACKBONES
from aebnas.backbones.classifier import replace_classifier
from aebnas.backbones.library import Asked
from aebnas.backbones.weights import load_checkpoint, read_state
from aebnas.errors import BackboneError
from aebnas.inputs import ModelInput

FOLDER = "folder"
CONFIG = "config.json"
_FIRST = ("model.safetensors", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
_FIELDS = ("input_size", "mean", "std", "interpolation", "crop_pct")


@dataclass(frozen=True)
class ModelFolder:
    """What a folder says of the classifier in it.

    Args:
        path: The folder.
        library: torchvision or timm; empty: one of ours.
        name: Of the architecture, without its library.
        options: To build it with.
        num_classes: That its weights tell apart; None where the folder does not say.
        pretrained: How it was trained, in timm's words; may be empty.
        weights: The file.
    """

    path: Path
    library: str
    name: str
    options: Mapping[str, Any]
    num_classes: int | None
    pretrained: Mapping[str, Any]
    weights: Path

    def wanted(self, options: Mapping[str, Any]) -> ModelInput | None:
        """Return how images were prepared for these weights, as far as the folder says so."""
        if not any(field in self.pretrained for field in _FIELDS):
            return None
        return from_timm.input_of(self.pretrained, {**self.options, **options})

    def asked(self, options: Mapping[str, Any], input_shape: tuple[int, ...], num_classes: int, load: bool) -> Asked:
        """Return what is asked of the library, with ``options`` that the folder does not say."""
        # Models of timm that fix the size of their input take that of the data; their weights are fitted to it.
        own = {key: value for key, value in self.options.items() if key != "img_size"}
        return Asked(self.name, {**own, **options}, None, num_classes, input_shape, load)


def build_from_folder(folder: ModelFolder, asked: Asked, build_own: Callable[[Asked], nn.Module]) -> nn.Module:
    """Build the classifier of ``folder`` with its weights; one for other classes than the data's is replaced.

    Args:
        build_own: Builds a backbone of ours.

    Raises:
        BackboneError: it cannot be built, or its weights are those of another model.
    """
    classes = folder.num_classes or asked.num_classes
    if folder.library == "timm":
        state = read_state(folder.weights) if asked.load else None
        return from_timm.build_from_state(asked, state, folder.pretrained, classes)
    bare = replace(asked, num_classes=classes)
    model = from_torchvision.build_bare(bare) if folder.library else build_own(bare)
    if asked.load:
        load_checkpoint(model, folder.weights, without=from_torchvision.AUXILIARY.get(folder.name, ()))
    if folder.library:
        from_torchvision.with_channels(model, asked.input_shape[0])
    if classes != asked.num_classes:
        replace_classifier(model, asked.num_classes)
    return model


def read_folder(path: Path) -> ModelFolder:
    """Read what ``path`` says of the classifier in it; no weights are read.

    Raises:
        BackboneError: the folder, its config.json or its weights are missing or wrong.
    """
    where = f"backbone.checkpoint {path}"
    if not path.is_dir():
        raise BackboneError(f"{where} is no folder: with backbone.name folder, give one with {CONFIG} and weights")
    config = _read_config(path / CONFIG)
    architecture = config.get("architecture")
    if not isinstance(architecture, str) or not architecture:
        raise BackboneError(
            f"{path / CONFIG} has no key 'architecture': give it a name such as resnet, torchvision:resnet18 or "
            "timm:resnet18"
        )
    library, name = _library_of(architecture, path / CONFIG)
    # Older files of timm have one level only.
    pretrained = config.get("pretrained_cfg", config)
    options = {**_mapping(config, "model_args", path), **_mapping(config, "options", path)}
    classes = options.pop("num_classes", config.get("num_classes", pretrained.get("num_classes")))
    if classes is not None and (not isinstance(classes, int) or classes < 1):
        raise BackboneError(f"{path / CONFIG}: num_classes must be a whole number of at least 1 (got {classes!r})")
    return ModelFolder(path, library, name, options, classes, pretrained, _weights_file(path))


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BackboneError(f"{path} does not exist: write one with the key 'architecture'") from None
    except (OSError, ValueError) as error:
        raise BackboneError(f"{path} cannot be read as JSON ({error}): write it again") from None
    if not isinstance(config, dict) or not isinstance(config.get("pretrained_cfg", {}), dict):
        raise BackboneError(f"{path} must hold an object with the key 'architecture', and pretrained_cfg one if any")
    return config


def _library_of(architecture: str, path: Path) -> tuple[str, str]:
    library, colon, name = architecture.partition(":")
    if colon:
        if library not in ("torchvision", "timm"):
            raise BackboneError(
                f"{path}: architecture {architecture!r} is of no library known here: give torchvision:NAME, timm:NAME "
                "or a name of aebnas"
            )
        return library, name
    # timm's own names may say the weights as well, which the folder has.
    return ("", architecture) if architecture in BACKBONES else ("timm", architecture.partition(".")[0])


def _mapping(config: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise BackboneError(f"{path / CONFIG}: {key} must be an object (got {value!r})")
    return value


def _weights_file(path: Path) -> Path:
    files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
    for name in _FIRST:
        if path / name in files:
            return path / name
    if len(files) != 1:
        found = f"holds {', '.join(file.name for file in files)}" if files else "holds no weights"
        raise BackboneError(
            f"backbone.checkpoint {path} {found}: leave one file there, model.safetensors or *.pt, *.pth, *.bin"
        )
    return files[0]
