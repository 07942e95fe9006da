from __future__ import annotations

import pytest
import torch

from aebnas.errors import ExperimentError
from aebnas.training.accelerator import pick_accelerator


def test_auto_prefers_an_accelerator_that_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_accelerator("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_accelerator("auto") == torch.device("cuda")
    assert pick_accelerator("cpu") == torch.device("cpu")


def test_an_accelerator_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ExperimentError, match=r"'cuda' is not available.*use auto or cpu"):
        pick_accelerator("cuda")


def test_an_unknown_accelerator_is_refused():
    with pytest.raises(ExperimentError, match="auto, cpu, cuda, mps"):
        pick_accelerator("tpu")
