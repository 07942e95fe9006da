import pytest
import torch
from torch import nn

from aebnas.backbones.flops import counting_flops
from aebnas.diagnosing.macs import block_macs
from aebnas.errors import RunError
from aebnas.export.blocks import block_bytes, export_block
from aebnas.export.precision import convert


class Attention(nn.Module):
    """Products of two tensors, neither of which is a weight."""

    def forward(self, x):
        flat = x.flatten(2)
        return torch.softmax(flat @ flat.transpose(1, 2), dim=-1) @ flat


NETWORKS = {
    "convolution": nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "grouped": nn.Conv2d(4, 8, (3, 1), groups=2),
    "transposed": nn.ConvTranspose2d(4, 6, 2, stride=2),
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(4 * 8 * 8, 5), nn.ReLU(), nn.Linear(5, 3)),
    "last axis": nn.Linear(8, 5),
    "attention": Attention(),
    "nothing": nn.Sequential(nn.ReLU(), nn.AvgPool2d(2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_are_those_that_torch_executes(name):
    network = NETWORKS[name].eval()
    with counting_flops() as counter, torch.no_grad():
        network(torch.zeros(1, 4, 8, 8))
    assert block_macs(block_bytes(export_block(network, (4, 8, 8))), name) == counter.get_total_flops() // 2


def test_a_convolution_by_hand():
    """6 maps of 4 x 4, each value of 4 x 3 x 3 products."""
    assert block_macs(block_bytes(export_block(NETWORKS["convolution"].eval(), (4, 8, 8))), "x") == 6 * 16 * 36


def test_the_precision_changes_nothing():
    network = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 3)).eval()
    block = export_block(network, (4, 8, 8))
    plain = block_macs(block_bytes(block), "x")
    samples = torch.randn(8, 4, 8, 8).numpy()
    for precision in ("fp16", "int8"):
        assert block_macs(block_bytes(convert(block, precision, samples)), "x") == plain == 216 * 36 + 216 * 3


def test_a_block_that_does_not_run_is_named():
    block = export_block(NETWORKS["convolution"].eval(), (4, 8, 8))
    block.graph.node[0].op_type = "Gemm"
    with pytest.raises(RunError, match=r"staged/branch_0.onnx cannot be run \(.*export the network again"):
        block_macs(block_bytes(block), "staged/branch_0.onnx")
