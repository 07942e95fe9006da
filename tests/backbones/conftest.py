"""Small networks of every style that a cut must get right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

torch.set_num_threads(1)

SHAPE = (2, 8, 8)
CLASSES = 3


def conv_bn(channels_in: int, channels: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels))


class Classifier(nn.Module):
    """Common frame: blocks one after the other, then pooling and a linear layer."""

    def __init__(self, stem: nn.Module, blocks: list[nn.Module], channels: int) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv_bn(channels, channels), conv_bn(channels, channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.relu(self.conv1(x)))
        out += x
        return self.relu(out)


class PreActivationBlock(nn.Module):
    """Its first operation changes the block's own input in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv_bn(channels, channels), conv_bn(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(x)
        return x + self.conv2(F.relu(self.conv1(x), inplace=True))


class Stage(nn.Module):
    """Blocks in a module that is no container of torch's."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.first, self.second = blocks

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class DenseBlock(nn.Module):
    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv_bn(channels + i * growth, growth) for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(F.relu(layer(torch.cat(features, 1))))
        return torch.cat(features, 1)


class InceptionBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one, self.three = conv_bn(channels, 2, 1), conv_bn(channels, 4)
        self.five = nn.Sequential(conv_bn(channels, 2, 1), nn.ReLU(), conv_bn(2, 2, 5))

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.avg_pool2d(x, 3, 1, 1)
        return F.relu(torch.cat([self.one(x), self.three(x), self.five(x), pooled], dim=1))


class SqueezeExcite(nn.Module):
    """Two layers of its own, yet no place for a branch: it sits inside a block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class DepthwiseBlock(nn.Module):
    """Ends in a batch-norm or a plain addition; squeezes and excites inside."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.expand, self.depthwise = conv_bn(channels_in, 12, 1), conv_bn(12, 12, 3, stride, groups=12)
        self.gate, self.project = SqueezeExcite(12), conv_bn(12, channels, 1)
        self.residual = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        out = F.hardswish(self.depthwise(F.relu6(self.expand(x))))
        out = self.project(self.gate(out))
        return x + out if self.residual else out


class Plain(nn.Module):
    """In-place ReLU behind every convolution, dropout of both kinds, and numbers read from shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(inplace=True), nn.Dropout(0.3),
            nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.fc1, self.fc2 = nn.Linear(6 * 2 * 2, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.size(0)
        x = self.features(x)
        assert x.dim() == 4 and x.shape[0] == batch
        if x.shape[2] > 2:
            x = F.max_pool2d(x, x.shape[2] // 2)
        x = x.view(batch, -1)
        return self.fc2(F.dropout(F.relu(self.fc1(x)), 0.5, training=self.training))


class SharedTwice(nn.Module):
    """One block used twice in a row, and one activation everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.act = conv_bn(2, 4), conv_bn(4, 4), nn.ReLU()
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        x = self.act(x + self.block(x))
        x = self.act(x + self.block(x))
        return self.fc(torch.flatten(F.adaptive_max_pool2d(x, 1), 1))


class OwnNorm(nn.Module):
    """A batch-norm written by hand, with a buffer that forward() changes in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(channels) + 0.5)
        self.register_buffer("running", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            mean = x.mean((0, 2, 3))
            self.running.mul_(0.9).add_(mean.detach(), alpha=0.1)
        else:
            mean = self.running
        return (x - mean[:, None, None]) * self.scale[:, None, None]


class DropPath(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(0.5)


class ModesBlock(nn.Module):
    """Takes another path in train mode than in eval mode, in three ways."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(4, 4, 3, padding=1), OwnNorm(4), DropPath()

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight - self.conv.weight.mean((1, 2, 3), keepdim=True)
        out = F.conv2d(x, weight, self.conv.bias, padding=1)
        return torch.relu(x + self.drop(F.dropout2d(self.norm(out), 0.2, self.training)))


class Tokens(nn.Module):
    """A class token, positions, attention over chunks, and the batch size read at the start and used to the end."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(2, 6, 2, 2)
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.register_buffer("position", torch.randn(1, 17, 6))
        self.grid = torch.arange(17.0)[None, :, None] / 17
        self.qkv, self.proj, self.fc = nn.Linear(6, 18), nn.Linear(6, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, _ = x.shape
        x = self.patch(x)
        x = x.reshape(n, 6, (height // 2) ** 2).permute(0, 2, 1)
        x = torch.cat([self.token.expand(n, -1, -1), x], dim=1) + self.position + self.grid
        for _ in range(2):
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            x = x + self.proj((q @ k.transpose(1, 2) / x.shape[-1] ** 0.5).softmax(-1) @ v)
        return self.fc(x.reshape(n, -1, 6)[:, 0])


ZOO: dict[str, Callable[[], nn.Module]] = {
    "residual": lambda: Classifier(conv_bn(2, 4), [ResidualBlock(4) for _ in range(3)], 4),
    "pre-activation": lambda: Classifier(conv_bn(2, 4), [PreActivationBlock(4) for _ in range(3)], 4),
    "staged": lambda: Classifier(
        conv_bn(2, 4), [Stage(ResidualBlock(4), ResidualBlock(4)), Stage(ResidualBlock(4), DepthwiseBlock(4, 6, 2))], 6
    ),
    "dense": lambda: Classifier(conv_bn(2, 4), [DenseBlock(4, 2, 2), conv_bn(8, 4, 1, 2), DenseBlock(4, 2, 3)], 10),
    "inception": lambda: Classifier(conv_bn(2, 4), [InceptionBlock(4), nn.MaxPool2d(2), InceptionBlock(12)], 20),
    "depthwise": lambda: Classifier(
        nn.Sequential(conv_bn(2, 4), nn.Hardswish(inplace=True)),
        [DepthwiseBlock(4, 4, 1), DepthwiseBlock(4, 6, 2), DepthwiseBlock(6, 6, 1), DepthwiseBlock(6, 8, 1)],
        8,
    ),
    "plain": Plain,
    "shared": SharedTwice,
    "modes": lambda: Classifier(nn.Conv2d(2, 4, 3, padding=1), [ModesBlock(), ModesBlock()], 4),
}


def settled(model: nn.Module) -> nn.Module:
    """Give batch-norm layers statistics and weights that a mistake would show in."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


@pytest.fixture(params=list(ZOO))
def net(request) -> nn.Module:
    torch.manual_seed(0)
    return settled(ZOO[request.param]())


@pytest.fixture
def make() -> Callable[[str], nn.Module]:
    def build(name: str) -> nn.Module:
        torch.manual_seed(0)
        return settled({**ZOO, "tokens": Tokens}[name]())

    return build


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(7))
