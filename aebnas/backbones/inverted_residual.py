"""Networks of inverted residual blocks with depthwise convolutions, for small images."""

from __future__ import annotations

from torch import Tensor, nn

from aebnas.backbones.catalogue import BACKBONES, check_at_least, check_image_shape, initialise


def _conv(channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(channels)]


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project; the input is added where the shape stays."""

    def __init__(self, channels_in: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.layers = nn.Sequential(
            *_conv(channels_in, wide, 1),
            nn.ReLU6(inplace=True),
            *_conv(wide, wide, 3, stride, groups=wide),
            nn.ReLU6(inplace=True),
            *_conv(wide, channels, 1),
        )
        self.residual = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


class InvertedResidualNet(nn.Module):
    """A MobileNetV2 (arXiv 1801.04381) cut down to small images: three stages with sides 1, 1/2 and 1/4.

    Args:
        num_classes: Number of logits.
        input_shape: (C, H, W).
        width: Channels of the first stage; the later ones have 3/2 and 3 times as many.
        blocks: Inverted residual blocks per stage.
        expansion: Channels inside a block over channels that enter it.

    Raises:
        BackboneError: an option is below 1, or the input is no image.
    """

    def __init__(
        self,
        num_classes: int,
        input_shape: tuple[int, ...],
        width: int = 16,
        blocks: int = 3,
        expansion: int = 4,
    ) -> None:
        super().__init__()
        channels = check_image_shape(input_shape)
        for name, value in (("width", width), ("blocks", blocks), ("expansion", expansion)):
            check_at_least(name, value, 1)
        self.stem = nn.Sequential(*_conv(channels, width, 3), nn.ReLU6(inplace=True))
        self.stages = nn.Sequential()
        channels = width
        for stage, stage_width in enumerate((width, width * 3 // 2, width * 3)):
            layers = nn.Sequential()
            for block in range(blocks):
                layers.append(InvertedResidual(channels, stage_width, 2 if stage and not block else 1, expansion))
                channels = stage_width
            self.stages.append(layers)
        self.last = nn.Sequential(*_conv(channels, channels * expansion, 1), nn.ReLU6(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(channels * expansion, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.stages(self.stem(x)))
        return self.head(self.flatten(self.pool(x)))  # type: ignore[no-any-return]


BACKBONES.add("inverted-residual")(InvertedResidualNet)
