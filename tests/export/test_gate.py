from __future__ import annotations

import numpy as np
import torch
from torch import nn

from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import Decider
from aebnas.export.gate import Decision, GatedExit


def test_a_gate_gives_the_argmax_and_the_confidence():
    logits = torch.tensor([[0.0, np.log(3.0)], [np.log(9.0), 0.0]], dtype=torch.float32)
    label, confidence = Decision(Decider(build_confidence("max-probability")))(logits)
    assert label.tolist() == [1, 0]
    np.testing.assert_allclose(confidence.numpy(), [0.75, 0.9], rtol=1e-6)


def test_a_gated_exit_keeps_the_logits():
    features = torch.tensor([[1.0, 4.0, 2.0]])
    logits, label, confidence = GatedExit(nn.Identity(), Decision(Decider(build_confidence("margin"))))(features)
    assert torch.equal(logits, features)
    assert label.dtype == torch.int64 and confidence.dtype == torch.float32 and label.tolist() == [1]
