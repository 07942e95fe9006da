"""One forward pass that shows whether a backbone is a classifier this package can work with."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from aebnas.errors import BackboneError

# What a model's own code may raise: anything but an interruption.
MODEL_ERRORS: tuple[type[BaseException], ...] = (Exception, SystemExit)


def reason_of(error: BaseException) -> str:
    """Return the first line of what an error says that says something; load_state_dict names keys in its second."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1]) or type(error).__name__


def example_input(model: nn.Module, input_shape: tuple[int, ...], batch: int) -> Tensor:
    """Return random input (batch, *input_shape) with the floating dtype and the device of the model's parameters."""
    generator = torch.Generator().manual_seed(batch)
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.randn(batch, *input_shape, generator=generator).to(device=like.device, dtype=like.dtype)


def check_forward(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Return the number of classes: the C of the (N, C) logits that ``model`` gives for (N, *input_shape).

    A copy is run, so that buffers which forward() changes stay as they are.

    Raises:
        BackboneError: the model refuses the input, returns no tensor, or not (N, C) for batches of one and two.
    """
    name, classes = type(model).__name__, 0
    running = copy.deepcopy(model).eval()
    for batch in (2, 1):
        with torch.no_grad():
            try:
                logits = running(example_input(model, input_shape, batch))
            except MODEL_ERRORS as error:
                raise BackboneError(
                    f"backbone {name} fails on a batch of {batch} with input of shape {input_shape} "
                    f"({reason_of(error)}): "
                    "give it options that fit the data"
                ) from error
        if not isinstance(logits, Tensor):
            raise BackboneError(
                f"backbone {name} returns a {type(logits).__name__}, not one tensor of logits: "
                "wrap it in a module that returns only the logits"
            )
        if logits.ndim != 2 or logits.shape[0] != batch:
            raise BackboneError(
                f"backbone {name} returns shape {tuple(logits.shape)} for a batch of {batch}, not ({batch}, classes): "
                "let it return one row of logits per sample"
            )
        classes = logits.shape[1]
    return classes
