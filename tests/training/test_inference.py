"""What networks say of splits, against one big batch."""

from __future__ import annotations

import pytest
import torch

from aebnas.data.splits import Batch
from aebnas.training.inference import Score, accuracy_of_logits, batch_to_device, inputs_of

CPU = torch.device("cpu")


@pytest.mark.parametrize("sizes", [[7], [3, 4], [1] * 7])
def test_a_score_is_the_share_of_right_answers(sizes):
    random = torch.Generator().manual_seed(0)
    logits, labels = [torch.randn(7, 3, generator=random) for _ in range(2)], torch.arange(7) % 3
    score = Score()
    for rows in torch.arange(7).split(sizes):
        score.add([z[rows] for z in logits], labels[rows])
    right = [[int(row.argmax()) == int(label) for row, label in zip(z, labels, strict=True)] for z in logits]
    assert score.accuracies() == pytest.approx([sum(answers) / 7 for answers in right])


def test_of_nothing_there_is_no_score():
    assert Score().accuracies() == []


@pytest.mark.parametrize("count", [3, 7, 240, 1100])
def test_a_score_has_the_digits_of_a_mean_in_float32(count):
    for right in range(0, count + 1, max(1, count // 13)):
        answers = torch.arange(count) < right
        score = Score()
        score.add([torch.stack([answers.float(), (~answers).float()], 1)], torch.zeros(count, dtype=torch.int64))
        # A tie goes to the first class; there is none here.
        assert score.accuracies() == [float(answers.float().mean())]


def test_a_batch_on_a_device_is_the_same_batch():
    batch = Batch(torch.tensor([4, 2]), torch.randn(2, 3, 4, 4), torch.tensor([1, 0]))
    there = batch_to_device(batch, CPU)
    assert there.images.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(a, b) for a, b in zip(batch, there, strict=True))
    said = torch.randn(5, 2)
    assert inputs_of(batch, None) == [batch.images]
    assert torch.equal(inputs_of(batch, said)[1], said[[4, 2]])


def test_the_accuracy_of_one_exit_from_all_its_logits():
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [1.0, 0.0]])
    labels = torch.tensor([0, 1, 0, 1])
    assert accuracy_of_logits(logits, labels) == 0.75
    # Of three samples of class 0 all are right, of two of class 1 one is.
    more = torch.cat([logits, logits[:1]]), torch.cat([labels, labels[:1]])
    assert accuracy_of_logits(*more, "balanced") == 0.75
    assert accuracy_of_logits(*more) == pytest.approx(0.8)
