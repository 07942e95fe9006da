"""Plain convolutional networks: no path goes round a layer."""

from __future__ import annotations

from torch import Tensor, nn

from aebnas.backbones.catalogue import BACKBONES, check_at_least, check_image_shape, initialise


class ConvNet(nn.Module):
    """``depth`` layers of 3x3 convolution, batch-norm and ReLU in three stages with max-pooling between them.

    Args:
        num_classes: Number of logits.
        input_shape: (C, H, W).
        depth: Number of convolutions, at least 3.
        width: Channels of the first stage; each later stage doubles them.

    Raises:
        BackboneError: an option is too small, or the input is no image.
    """

    def __init__(self, num_classes: int, input_shape: tuple[int, ...], depth: int = 6, width: int = 16) -> None:
        super().__init__()
        channels = check_image_shape(input_shape)
        check_at_least("depth", depth, 3)
        check_at_least("width", width, 1)
        self.features = nn.Sequential()
        for layer in range(depth):
            stage = layer * 3 // depth
            if layer and stage != (layer - 1) * 3 // depth:
                self.features.append(nn.MaxPool2d(2, ceil_mode=True))
            self.features.append(nn.Conv2d(channels, width * 2**stage, 3, 1, 1, bias=False))
            self.features.append(nn.BatchNorm2d(width * 2**stage))
            self.features.append(nn.ReLU(inplace=True))
            channels = width * 2**stage
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flatten(self.pool(self.features(x))))  # type: ignore[no-any-return]


BACKBONES.add("convnet")(ConvNet)
