"""Exports whose exits hand something on: labels, confidences and costs are those of the PyTorch network."""

import numpy as np
import pytest
import torch

from aebnas.branches.spec import BranchSpec
from aebnas.costs.model import CostModel
from aebnas.diagnosing.diagnosis import diagnose
from aebnas.diagnosing.of_export import subject_of_export
from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import decide
from aebnas.exits.policy import Policy
from aebnas.export.package import export_network
from aebnas.network import EarlyExitNetwork
from aebnas.training.fit import logits_of

CLASSES = 4


@pytest.fixture(scope="module", params=["none", "both"])
def network(request, prepared):
    torch.manual_seed(0)
    specs = [BranchSpec(point.name) for point in prepared.backbone.attach_points]
    return EarlyExitNetwork(prepared.backbone, specs, request.param).eval()


def written(network, prepared, policy, out):
    segments, branches = network.parts()
    return export_network(
        out,
        segments=segments,
        branches=list(branches),
        policy=policy,
        input_shape=prepared.data.input_shape,
        classes=prepared.data.classes,
        preprocessing=prepared.data.preprocessing.to_json(),
        costs={},
        extra={
            "id": "mine",
            "branches": [spec.to_json() for spec in network.specs],
            "data": prepared.experiment.data.model_dump(mode="json"),
            "seed": prepared.experiment.seed,
        },
    )


@pytest.mark.parametrize("confidence", ["patience", "ensemble", "one-vs-all"])
@pytest.mark.parametrize("by_class", [False, True])
def test_an_export_of_any_policy_is_diagnosed(network, prepared, confidence, by_class, tmp_path):
    measure, logits = build_confidence(confidence), logits_of(network, prepared.data.validation, torch.device("cpu"))
    labels, confidences = (found.numpy() for found in decide(measure, logits))
    # Between two confidences, for the last digits of PyTorch and onnxruntime differ.
    bars = [float(np.quantile(np.unique(row), 0.7)) + 1e-3 for row in confidences[:-1]]
    thresholds = tuple((bar, None, bar, bar) if by_class else bar for bar in bars)
    subject = subject_of_export(written(network, prepared, Policy(confidence, thresholds), tmp_path / "onnx"))
    found = subject.outcomes("validation")
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_allclose(found.confidences, confidences, atol=1e-5)
    assert subject.prefixes == (network.cascade != "none")
    assert subject.branches == tuple(spec.attach for spec in network.specs)
    if by_class:
        assert not (found.labels[found.exits, np.arange(len(found.exits))][found.exits < 2] == 1).any()
    diagnosis = diagnose(subject)
    assert diagnosis.findings and diagnosis.to_json()["test"]["samples"] == 120


def test_macs_are_about_those_of_the_search(network, prepared, tmp_path):
    subject = subject_of_export(written(network, prepared, Policy("margin", (0.5, 0.5)), tmp_path / "onnx"))
    costs = CostModel(prepared.backbone, None)
    composed = costs.network(network.specs, network.cascade)
    assert subject.backbone_macs == pytest.approx(float(costs.backbone[0]), rel=0.2)
    masks = [(True, True), (True, False), (False, False)]
    for mask in masks if subject.prefixes else [*masks, (False, True)]:
        on = [*mask, True]
        here, there = subject.exit_macs(mask)[0][on], composed.exit_costs(mask)[0][on]
        # The search counts batch-norm and pooling, the files have convolutions and matrix products.
        assert here == pytest.approx(there, rel=0.2) and (here <= there).all()
