"""What is asked of a library of models, and how it is reached."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import nn

from aebnas.backbones.check import reason_of
from aebnas.errors import BackboneError, MissingExtraError
from aebnas.inputs import ModelInput


@dataclass(frozen=True)
class Asked:
    """A model of a library.

    Args:
        name: As the library calls it.
        options: Passed on to the library.
        weights: Pretrained ones, as the library calls them; None: drawn at random.
        num_classes: Of the data; a classifier for others is replaced.
        input_shape: (C, H, W) of the data.
        load: False: the same model, but whoever asks brings its weights.
    """

    name: str
    options: Mapping[str, Any]
    weights: str | None
    num_classes: int
    input_shape: tuple[int, ...]
    load: bool = True


class Library(Protocol):
    """A module that builds the models of one library."""

    def build(self, asked: Asked) -> nn.Module:
        """Build a model; BackboneError where name, options or weights are wrong, or the download fails."""
        ...

    def classes_of(self, name: str, weights: str) -> int:
        """Return how many classes pretrained weights tell apart; nothing is downloaded."""
        ...

    def wanted(self, name: str, weights: str, options: Mapping[str, Any]) -> ModelInput:
        """Return how images were prepared for pretrained weights; nothing is downloaded."""
        ...


def import_library(name: str) -> ModuleType:
    """Import the library ``name``, which an extra of that name brings."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            raise MissingExtraError(name, name) from None
        raise BackboneError(f"{name} cannot be imported ({error}): install what it names") from error
    except Exception as error:  # libraries with compiled parts raise anything where these do not fit
        raise BackboneError(
            f"{name} cannot be imported ({reason_of(error)}): install the version of it that fits "
            f"PyTorch {torch.__version__}"
        ) from error


def no_such_model(library: str, name: str, known: Iterable[str], listing: str) -> BackboneError:
    """Return the error for a model that ``library`` does not have; its lists are too long to be told."""
    near = difflib.get_close_matches(name, list(known), n=3)
    hint = f"did you mean {' or '.join(f'{library}:{one}' for one in near)}? " if near else ""
    return BackboneError(f"backbone.name: {library} has no model {name!r}: {hint}{listing} lists all")


def cannot_build(library: str, asked: Asked, error: BaseException) -> BackboneError:
    """Return the error for options that the library refuses."""
    return BackboneError(
        f"backbone.name '{library}:{asked.name}' cannot be built with options {dict(asked.options)} "
        f"({reason_of(error)}): correct backbone.options"
    )
