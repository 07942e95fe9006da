"""Modules for tokens, tensors (N, tokens, width) as transformers hand on, where maps have (N, channels, H, W)."""

from __future__ import annotations

from torch import Tensor, nn

POOLS = ("mean", "class")


class Product(nn.Module):
    """A matrix product of two tensors; a module, so that it is counted as layers are."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Return ``left @ right``."""
        return left @ right


class TokenMlp(nn.Module):
    """The second half of a transformer's block: norm, widen, GELU, narrow, for each token by itself, and a shortcut.

    Args:
        width: Of the tokens.
        hidden: Inside.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen, self.act, self.narrow = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        return x + self.narrow(self.act(self.widen(self.norm(x))))  # type: ignore[no-any-return]


class TokenAttention(nn.Module):
    """The first half of a transformer's block, narrower: norm, self-attention over ``inside`` channels, a shortcut.

    Args:
        tokens: How many there are.
        width: Of the tokens.
        inside: Of queries, keys and values; a multiple of ``heads``.
        heads: How many attend side by side.
    """

    def __init__(self, tokens: int, width: int, inside: int, heads: int) -> None:
        super().__init__()
        self.split = (tokens, 3, heads, inside // heads)
        self.norm = nn.LayerNorm(width)
        self.ask, self.answer = nn.Linear(width, 3 * inside), nn.Linear(inside, width)
        self.scores, self.softmax, self.mixed = Product(), nn.Softmax(-1), Product()

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        tokens, _, heads, each = self.split
        query, key, value = self.ask(self.norm(x)).reshape(-1, *self.split).permute(2, 0, 3, 1, 4)
        shares = self.softmax(self.scores(query * each**-0.5, key.transpose(-2, -1)))
        mixed: Tensor = self.mixed(shares, value)
        return x + self.answer(mixed.transpose(1, 2).reshape(-1, tokens, heads * each))  # type: ignore[no-any-return]


class TokenPool(nn.Module):
    """From tokens (N, tokens, width) to one vector (N, width): their mean, or the first, which is the class token."""

    def __init__(self, pool: str) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Return one vector per sample."""
        return x.mean(1) if self.pool == "mean" else x[:, 0]
