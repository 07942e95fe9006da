from __future__ import annotations

import pytest
import torch

from aebnas.errors import ExperimentError
from aebnas.training.accelerator import (
    Randomness,
    autocast,
    pick_accelerator,
    random_state,
    sent,
    set_random_state,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def test_auto_prefers_an_accelerator_that_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_accelerator("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_accelerator("auto") == torch.device("cuda")
    assert pick_accelerator("cpu") == torch.device("cpu")


def test_an_accelerator_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ExperimentError, match=r"'cuda' is not available.*use auto or cpu"):
        pick_accelerator("cuda")


def test_an_unknown_accelerator_is_refused():
    with pytest.raises(ExperimentError, match="auto, cpu, cuda, mps"):
        pick_accelerator("tpu")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
def test_generators_go_on_where_they_were_found(device):
    device = torch.device(device)
    torch.manual_seed(0)
    torch.rand(3, device=device)
    state = random_state(device)
    expected = [torch.rand(5), torch.rand(5, device=device)]
    torch.manual_seed(1)
    set_random_state(state, device)
    found = [torch.rand(5), torch.rand(5, device=device)]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_state_from_another_device_is_used_as_far_as_it_goes():
    torch.manual_seed(0)
    state = {**random_state(CPU), "cuda": torch.zeros(16, dtype=torch.uint8)}
    expected = torch.rand(5)
    set_random_state(state, CPU)
    assert torch.equal(torch.rand(5), expected)


def test_who_takes_turns_draws_what_each_would_draw_alone():
    def alone(seed):
        torch.manual_seed(seed)
        return torch.rand(6)

    expected = [alone(seed) for seed in (1, 2)]
    own = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        own.append(Randomness(CPU))
    expected.append(alone(3))  # so does who has no randomness of its own, in between
    torch.manual_seed(3)
    drawn = [[], [], []]
    for _ in range(3):
        for random, numbers in zip(own, drawn, strict=False):
            with random:
                numbers.append(torch.rand(2))
        drawn[2].append(torch.rand(2))
    assert all(torch.equal(torch.cat(a), b) for a, b in zip(drawn, expected, strict=True))


@pytest.mark.parametrize("device", ["cpu", "mps"])
@pytest.mark.parametrize("mixed", [False, True])
def test_only_cuda_computes_in_mixed_precision(device, mixed):
    with autocast(torch.device(device), mixed):
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32


@needs_cuda
@pytest.mark.parametrize("mixed", [False, True])
def test_cuda_computes_in_mixed_precision_if_told_to(mixed):
    one = torch.ones(2, 2, device=CUDA)
    with autocast(CUDA, mixed):
        assert torch.nn.functional.linear(one, one).dtype == (torch.bfloat16 if mixed else torch.float32)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
def test_what_is_sent_is_what_arrives(device):
    numbers = torch.arange(6).reshape(2, 3)
    there = sent(numbers, torch.device(device))
    assert there.device.type == device
    assert torch.equal(there.cpu(), numbers)
    assert sent(there, torch.device(device)) is there


def test_what_is_there_already_is_not_copied():
    numbers = torch.arange(3)
    assert sent(numbers, CPU) is numbers
