"""Fisher information against autograd on one sample at a time, and in closed form."""

from __future__ import annotations

import torch
from torch import nn

from aebnas.training.fisher import diagonal_fisher, draw_labels


def test_it_is_the_mean_of_squared_gradients_of_single_samples():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    images, labels = torch.randn(7, 3), torch.randint(2, (7,))
    fisher = diagonal_fisher(model, dict(model.named_parameters()), images, labels)
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for image, label in zip(images, labels, strict=True):
        model.zero_grad()
        nn.functional.cross_entropy(model(image[None]), label[None]).backward()
        for name, p in model.named_parameters():
            total[name] += p.grad**2 / 7
    assert fisher.keys() == total.keys()
    for name, expected in total.items():
        torch.testing.assert_close(fisher[name], expected)


def test_that_of_a_linear_layer_in_closed_form():
    """The gradient of log p(y) by W is (onehot(y) - p) x^T."""
    layer = nn.Linear(2, 3, bias=False)
    image, label = torch.tensor([[1.0, -2.0]]), torch.tensor([2])
    fisher = diagonal_fisher(layer, dict(layer.named_parameters()), image, label)
    error = torch.tensor([0.0, 0.0, 1.0]) - layer(image).softmax(1)[0]
    torch.testing.assert_close(fisher["weight"], (error[:, None] * image).square().detach())


def test_weights_that_the_exit_does_not_depend_on_are_left_out():
    used, other = nn.Linear(2, 2), nn.Linear(2, 2)
    weights = {**dict(used.named_parameters(prefix="used")), **dict(other.named_parameters(prefix="other"))}
    fisher = diagonal_fisher(used, weights, torch.randn(3, 2), torch.tensor([0, 1, 0]))
    assert sorted(fisher) == ["used.bias", "used.weight"]


def test_a_batch_would_give_something_else():
    """Two samples whose gradients cancel: their sum squared is nothing, the sum of their squares is not."""
    layer = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(layer.weight)
    fisher = diagonal_fisher(layer, {"w": layer.weight}, torch.ones(2, 1), torch.tensor([0, 1]))
    torch.testing.assert_close(fisher["w"], torch.full((2, 1), 0.25))


def test_labels_are_drawn_from_what_the_exit_predicts():
    logits = torch.tensor([0.7, 0.2, 0.1]).log().expand(4000, 3)
    drawn = draw_labels(logits, seed=0)
    shares = torch.bincount(drawn, minlength=3) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.7, 0.2, 0.1]), atol=0.03, rtol=0)
    assert torch.equal(drawn, draw_labels(logits, seed=0))
    assert not torch.equal(drawn, draw_labels(logits, seed=1))
