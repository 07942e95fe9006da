"""Which families of models can be cut, counted and exported without editing them, and what stands in the way elsewhere.

Every model is built without weights at the size of input that its library names for it (``--quick``: the least that it
takes), cut at six points, and its segments are run one after the other, in PyTorch and as ONNX blocks in onnxruntime.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from aebnas.backbones.build import build_backbone
from aebnas.backbones.classifier import last_layer
from aebnas.backbones.cut import SegmentedBackbone, cut_backbone
from aebnas.backbones.settings import BackboneSettings
from aebnas.branches.build import build_branch
from aebnas.branches.spec import BranchSpec
from aebnas.costs.macs import count_macs
from aebnas.errors import AebnasError
from aebnas.export.blocks import export_block
from aebnas.spaces.definition import load_space

CLASSES, POINTS = 10, 6
BEGIN, END = "<!-- families -->", "<!-- /families -->"
HEADER = (
    "model", "input", "points", "tensors there", "difference of segments", "MACs by thop, M", "reference, M",
    "missed by thop, M", "difference of ONNX",
)  # fmt: skip


@dataclass(frozen=True)
class Family:
    """One model of a family: its name, the side of its input, and the least side that shows the same."""

    name: str
    side: int = 224
    least: int = 64
    options: dict[str, int] = field(default_factory=dict)


FAMILIES = (
    Family("torchvision:resnet18"),
    Family("torchvision:resnext50_32x4d"),
    Family("torchvision:wide_resnet50_2"),
    Family("torchvision:densenet121"),
    Family("torchvision:vgg11_bn", 224, 224),
    Family("torchvision:alexnet", 224, 224),
    Family("torchvision:inception_v3", 299, 96),
    Family("torchvision:googlenet"),
    Family("torchvision:mobilenet_v2"),
    Family("torchvision:mobilenet_v3_small"),
    Family("torchvision:efficientnet_b0"),
    Family("torchvision:efficientnet_v2_s", 384),
    Family("torchvision:regnet_y_400mf"),
    Family("torchvision:convnext_tiny"),
    Family("torchvision:mnasnet0_5"),
    Family("torchvision:shufflenet_v2_x0_5"),
    Family("torchvision:squeezenet1_1"),
    Family("torchvision:vit_b_16"),
    Family("torchvision:swin_t"),
    Family("torchvision:swin_v2_t", 256),
    Family("torchvision:maxvit_t", 224, 224),
    Family("timm:resnet18"),
    Family("timm:mobilenetv3_small_050"),
    Family("timm:efficientnet_b0"),
    Family("timm:convnext_atto"),
    Family("timm:ghostnet_050"),
    Family("timm:repvgg_a0"),
    Family("timm:nfnet_l0"),
    Family("timm:mobileone_s0"),
    Family("timm:fastvit_t8", 256),
    Family("timm:mobilevit_xxs", 256),
    Family("timm:edgenext_xx_small", 256),
    Family("timm:poolformer_s12"),
    Family("timm:pvt_v2_b0"),
    Family("timm:vit_tiny_patch16_224"),
    Family("timm:deit_tiny_patch16_224"),
    Family("timm:deit_tiny_distilled_patch16_224"),
    Family("timm:swin_tiny_patch4_window7_224", 224, 224),
    Family("timm:mixer_s32_224"),
    Family("timm:levit_128s", 224, 224),
    Family("timm:beit_base_patch16_224"),
    Family("timm:eva02_tiny_patch14_224", 224, 56),
    Family("timm:xcit_nano_12_p16_224"),
    Family("timm:coat_tiny"),
    Family("timm:crossvit_tiny_240", 240, 240),
    Family("timm:maxvit_nano_rw_256", 256, 256),
)


@dataclass(frozen=True)
class Row:
    """What became of one model; ``reason`` says in whose way something stood."""

    name: str
    side: int
    points: int = 0
    tensors: str = ""
    difference: float | None = None
    macs: int = 0
    missed: int = 0
    reference: int = 0
    onnx_difference: float | None = None
    reason: str = ""

    def cells(self) -> list[str]:
        """Return the row as people read it, without the reason."""
        millions = [f"{value / 1e6:,.1f}" if self.points else "" for value in (self.macs, self.reference, self.missed)]
        differences = ["" if d is None else f"{d:.1e}" for d in (self.difference, self.onnx_difference)]
        side = f"{self.side}x{self.side}"
        return [self.name, side, str(self.points), self.tensors, differences[0], *millions, differences[1]]


def examine(family: Family, side: int) -> Row:
    """Build, cut, run, count and export one model for images of ``side`` x ``side``."""
    torch.manual_seed(0)
    shape = (3, side, side)
    row = Row(family.name, side)
    try:
        settings = BackboneSettings(name=family.name, options=dict(family.options))
        model = build_backbone(settings, num_classes=CLASSES, input_shape=shape).eval()
        cut = cut_backbone(model, shape, max_points=POINTS).eval()
    except AebnasError as error:
        return Row(family.name, side, reason=str(error))
    # Blocks are exported with two images: with three it shows where the number of images is fixed.
    images = torch.randn(3, *shape)
    settle(model, images)
    with torch.no_grad():
        difference = _relative(cut(images.clone()), model(images.clone()))
    shapes = [shape, *(point.shape for point in cut.attach_points)]
    counts = [count_macs(segment, one) for segment, one in zip(cut.segments, shapes, strict=True)]
    _try_heads(cut)
    row = Row(
        family.name,
        side,
        len(cut.attach_points),
        " and ".join(dict.fromkeys("maps" if len(point.shape) == 3 else "tokens" for point in cut.attach_points)),
        difference,
        sum(count.macs for count in counts),
        sum(count.missed for count in counts),
        cut.macs,
    )
    try:
        return Row(**{**vars(row), "onnx_difference": onnx_difference(cut, model, images)})
    except AebnasError as error:
        return Row(**{**vars(row), "reason": str(error)})


def onnx_difference(cut: SegmentedBackbone, model: nn.Module, images: Tensor) -> float:
    """Return the largest difference of logits between backbone and exported segments, over the largest logit."""
    value: NDArray[np.float32] = images.numpy()
    shape = tuple(images.shape[1:])
    for segment, after in zip(cut.segments, [*(point.shape for point in cut.attach_points), (CLASSES,)], strict=True):
        block = export_block(segment, shape)
        session = onnxruntime.InferenceSession(block.SerializeToString(), providers=["CPUExecutionProvider"])
        (value,) = session.run(None, {"input": value})
        shape = after
    with torch.no_grad():
        return _relative(torch.from_numpy(value), model(images.clone()))


def settle(model: nn.Module, images: Tensor) -> None:
    """Give batch-norms the statistics of ``images``, and the last layer weights, which some models begin with as zeros.

    With those of a fresh model, logits would vanish or overflow.
    """
    nn.init.normal_(last_layer(model)[1].weight, std=0.05)
    norms = [part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.0
    with torch.no_grad():
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval().momentum = momentum


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def _try_heads(cut: SegmentedBackbone) -> None:
    """Hang a branch of the default space at every point; an AssertionError says that none fits there."""
    heads = load_space("compact").head_choices().values()
    for point in cut.attach_points:
        for head in heads:
            try:
                branch = build_branch(BranchSpec(point.name, (), head), point.shape, CLASSES).eval()
            except AebnasError:
                continue
            assert branch(torch.zeros(1, *point.shape)).shape == (1, CLASSES)
            break
        else:
            raise AssertionError(f"no head fits {point.name} {point.shape}")


def run(families: Iterable[Family], *, quick: bool) -> Iterator[Row]:
    """Examine the models one after the other."""
    for family in families:
        yield examine(family, family.least if quick else family.side)


def markdown(rows: Iterable[Row]) -> str:
    """Return the table as it stands in the documentation, with the reasons below."""
    rows = list(rows)
    lines = [f"| {' | '.join(HEADER)} |", f"|{'|'.join(['---'] * 2 + ['---:'] + ['---'] + ['---:'] * 5)}|"]
    lines += [f"| {' | '.join(row.cells())} |" for row in rows]
    reasons = [f"- `{row.name}`: {row.reason}" for row in rows if row.reason]
    return "\n".join([*lines, "", *(["What stands in the way:", "", *reasons, ""] if reasons else [])])


def write(path: Path, table: str) -> None:
    """Put ``table`` between the markers in ``path``."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{path} has no {BEGIN} and {END}: add them where the table is to stand")
    path.write_text(f"{before}{BEGIN}\n\n{table}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Print the table; write it where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small inputs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the markers in this page")
    parser.add_argument("--only", metavar="TEXT", default="", help="models whose name holds this text")
    options = parser.parse_args()
    console = Console()
    rows = []
    for row in run((family for family in FAMILIES if options.only in family.name), quick=options.quick):
        console.print("  ".join(row.cells()), row.reason, highlight=False, soft_wrap=True)
        rows.append(row)
    table = Table(*HEADER)
    for row in rows:
        table.add_row(*row.cells())
    console.print(table)
    if options.json:
        figures: dict[str, float | int | str | None] = {
            "models": len(rows),
            "cut": sum(row.points > 0 for row in rows),
            "exported": sum(row.onnx_difference is not None for row in rows),
        }
        for row in rows:
            figures |= {f"{row.name}_{key}": value for key, value in vars(row).items() if key != "name"}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.write:
        write(options.write, markdown(rows))


if __name__ == "__main__":
    main()
