"""What is timed has the operations of what is deployed."""

from __future__ import annotations

import onnx
import pytest
import torch

from aebnas.branches.build import build_branch
from aebnas.branches.linked import build_exit
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.costs.blocks import Block
from aebnas.devices.profile import HardwareProfile
from aebnas.errors import BackboneError
from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import Decider
from aebnas.export.graphs import LOGITS
from aebnas.export.manifest import branch_file, segment_file
from aebnas.rebuild import deployed_backbone, export_row, rebuild
from aebnas.run_folder import RunFolder
from aebnas.searching.timed import timed_exporter
from aebnas.store import state_of

SPECS = (PartSpec.of("conv", kernel=1), PartSpec("batch-norm"), PartSpec("relu"))


@pytest.fixture
def spec(prepared):
    return BranchSpec(prepared.backbone.attach_points[1].name, SPECS)


@pytest.fixture
def built(spec, prepared):
    def make(seed):
        torch.manual_seed(seed)
        point = prepared.backbone.attach_points[1]
        return build_branch(spec, point.shape, prepared.backbone.num_classes).eval()

    return make


@pytest.fixture
def export(prepared, tmp_path):
    def make(precision, confidence="max-probability"):
        chain = deployed_backbone(prepared, precision, RunFolder(tmp_path / "run"))
        return timed_exporter(chain, prepared.backbone.segments, Decider(build_confidence(confidence)))

    return make


def operators(model):
    return [node.op_type for node in model.graph.node]


def outputs(model):
    return [(output.name, output.type.tensor_type.shape.dim[0].dim_value) for output in model.graph.output]


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_blocks_are_timed_as_they_are_exported(export, prepared, spec, built, tmp_path, precision):
    folder, record = RunFolder(tmp_path / "run"), {"state": state_of(built(0))}
    folder.branches.put("trained", record)
    row = {
        "id": "one",
        "static": False,
        "exits": [spec.to_json()],
        "weights": {"branches": ["trained"]},
        "thresholds": [0.5],
        "exit_shares": [0.5, 0.5],
        "confidence": "max-probability",
        "precision": precision,
    }
    out = tmp_path / "out"
    profile = HardwareProfile(name="paper", description="d", connection="none")
    export_row(row, rebuild(row, prepared, folder), prepared, out, profile, folder)
    segments, write = tuple(prepared.backbone.segments), export(precision)
    shape, point = prepared.backbone.input_shape, prepared.backbone.attach_points[1].shape
    timed = {
        segment_file(0): write(Block(segments[:2], shape)),
        segment_file(1): write(Block(segments[2:], point, gated=True)),
        branch_file(0): write(Block((built(1),), point, gated=True)),
    }
    for name, block in timed.items():
        onnx.checker.check_model(block, full_check=True)
        assert operators(block) == operators(onnx.load(out / name)), name
    assert outputs(timed[segment_file(0)])[0][1] == 1
    assert outputs(timed[branch_file(0)]) == [(LOGITS, 1), ("label", 1), ("confidence", 1)]
    cut = write(Block((*segments[:2], built(1)), shape, gated=True))
    assert outputs(cut) == outputs(timed[branch_file(0)])
    alone = operators(timed[segment_file(0)]) + operators(timed[branch_file(0)])
    assert len(alone) - len(operators(cut)) == 2  # the way out of the precision and back into it


@pytest.mark.parametrize("confidence", ["patience", "ensemble"])
def test_a_converted_exit_takes_a_state_and_hands_it_on(export, built, prepared, confidence):
    point, classes = prepared.backbone.attach_points[1].shape, prepared.backbone.num_classes
    write = export("int8", confidence)
    first = write(Block((built(1),), point, gated=True))
    behind = write(Block((built(1),), point, gated=True, classes_before=classes))
    last = write(Block(tuple(prepared.backbone.segments[2:]), point, gated=True, classes_before=classes, last=True))
    assert [[value.name for value in block.graph.input][1:] for block in (first, behind, last)] == [
        [],
        ["state"],
        ["state"],
    ]
    handed = [(LOGITS, 1), ("label", 1), ("confidence", 1), ("next_state", 1)]
    assert [outputs(block) for block in (first, behind, last)] == [handed, handed, handed[:3]]


def test_cascaded_branches_are_not_timed_in_other_precisions(export, spec, prepared):
    point, classes = prepared.backbone.attach_points[1].shape, prepared.backbone.num_classes
    linked = build_exit(spec, point, classes, "both", first=False)
    with pytest.raises(BackboneError, match="cascaded branches run in fp32 only: leave fp16 out"):
        export("fp16")(Block((linked,), point, gated=True, classes_before=classes))
