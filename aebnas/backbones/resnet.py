"""Residual networks for small images."""

from __future__ import annotations

from torch import Tensor, nn

from aebnas.backbones.catalogue import BACKBONES, check_at_least, check_image_shape, initialise
from aebnas.errors import BackboneError


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut.append(nn.Conv2d(channels_in, channels, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu2(out + self.shortcut(x))  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """The CIFAR form of ResNet (arXiv 1512.03385, section 4.2): a stem and three stages of ``(depth - 2) / 6`` blocks.

    Args:
        num_classes: Number of logits.
        input_shape: (C, H, W).
        depth: Number of weighted layers on the main path, 6n + 2.
        width: Channels of the first stage; each later stage doubles them and halves the side.

    Raises:
        BackboneError: ``depth`` is not 6n + 2, ``width`` is below 1, or the input is no image.
    """

    def __init__(self, num_classes: int, input_shape: tuple[int, ...], depth: int = 20, width: int = 16) -> None:
        super().__init__()
        channels = check_image_shape(input_shape)
        check_at_least("width", width, 1)
        if depth < 8 or depth % 6 != 2:
            raise BackboneError(f"backbone.options.depth of a resnet must be 6n + 2: 8, 14, 20, 26, ... (got {depth})")
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.stages = nn.Sequential()
        channels = width
        for stage in range(3):
            blocks = nn.Sequential()
            for block in range((depth - 2) // 6):
                blocks.append(BasicBlock(channels, width * 2**stage, 2 if stage and not block else 1))
                channels = width * 2**stage
            self.stages.append(blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.stem(x))
        return self.head(self.flatten(self.pool(x)))  # type: ignore[no-any-return]


BACKBONES.add("resnet")(ResNet)
