"""Prototype pooling against cosines taken one position and one prototype at a time."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from aebnas.branches.build import make_head
from aebnas.branches.prototypes import PrototypePooling
from aebnas.branches.spec import PartSpec
from aebnas.errors import BranchError


@pytest.fixture
def pooling():
    torch.manual_seed(0)
    return PrototypePooling(5, 4, 3).eval()


@pytest.fixture
def maps():
    return torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(1))


def test_cosines_by_hand(pooling, maps):
    cosines, projected = pooling.cosines(maps), pooling.project(maps)
    for sample in range(2):
        for number in range(3):
            for y in range(6):
                for x in range(7):
                    prototype = pooling.prototypes.weight[number, :, 0, 0]
                    by_hand = F.cosine_similarity(projected[sample, :, y, x], prototype, dim=0)
                    torch.testing.assert_close(cosines[sample, number, y, x], by_hand)


def test_what_is_handed_on_are_the_maxima_the_means_and_the_average_map(pooling, maps):
    values, cosines = pooling(maps), pooling.cosines(maps)
    assert values.shape == (2, pooling.features) == (2, 3 + 3 + 5)
    torch.testing.assert_close(values[:, :3], cosines.flatten(2).max(2).values)
    torch.testing.assert_close(values[:, 3:6], cosines.flatten(2).mean(2))
    torch.testing.assert_close(values[:, 6:], maps.flatten(2).mean(2))


def test_cosines_do_not_depend_on_the_length_of_prototypes_and_stay_within_one(pooling, maps):
    before = pooling.cosines(maps)
    pooling.prototypes.weight.data *= torch.tensor([0.1, 3.0, 50.0])[:, None, None, None]
    torch.testing.assert_close(pooling.cosines(maps), before)
    assert before.abs().max() <= 1 + 1e-6


def test_an_empty_map_has_finite_gradients(pooling):
    pooling.project.bias.data.zero_()
    maps = torch.zeros(1, 5, 2, 2, requires_grad=True)
    pooling(maps).sum().backward()
    gradients = [maps.grad, *(weight.grad for weight in pooling.parameters())]
    assert all(bool(torch.isfinite(gradient).all()) and gradient.abs().max() < 1e5 for gradient in gradients)


@pytest.mark.parametrize("options", [{"width": 0}, {"prototypes": 0}, {"width": 2000}, {"prototypes": 1025}])
def test_sizes_out_of_reach_are_refused(options):
    with pytest.raises(BranchError, match="takes width and prototypes of 1 to 1024"):
        make_head(PartSpec.of("prototype-pooling", **options), (5, 4, 4), 3)
