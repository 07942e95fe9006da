"""Training by balanced accuracy, and with weights that make every class count the same."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from aebnas.data.preprocessing import identity
from aebnas.data.splits import TensorSplit
from aebnas.exits.accuracy import accuracy_of as exact_accuracy
from aebnas.exits.confidence import build_confidence
from aebnas.training.candidates import BranchJob, train_branch, train_branches, train_network
from aebnas.training.fit import Trainee, accuracy_of, fit
from aebnas.training.inference import Score
from aebnas.training.losses import distillation_loss, label_loss
from aebnas.training.objective import Objective, balanced_weights
from aebnas.training.settings import BackboneFitSettings, FitSettings, RegimeSettings
from aebnas.training.survivors import cascade_thresholds

CPU = torch.device("cpu")
TRAINING = FitSettings(epochs=3, batch_size=32, lr=0.03, class_weights="balanced")


@pytest.mark.parametrize("sizes", [[60], [7, 50, 3]])
def test_a_balanced_score_is_the_mean_of_recalls(sizes):
    random = torch.Generator().manual_seed(0)
    labels = torch.multinomial(torch.tensor([0.7, 0.2, 0.1, 0.0]), 60, replacement=True, generator=random)
    logits = [torch.randn(60, 4, generator=random) for _ in range(2)]
    score = Score("balanced")
    for rows in torch.arange(60).split(sizes):
        score.add([z[rows] for z in logits], labels[rows])
    truth = labels.numpy()
    expected = [exact_accuracy(z.argmax(1).numpy() == truth, truth, "balanced") for z in logits]
    assert score.accuracies() == pytest.approx(expected, abs=1e-12)
    assert Score("balanced").accuracies() == []


def test_weights_are_in_the_ratio_of_rarity_and_have_mean_one():
    labels = torch.tensor([0] * 6 + [2] * 3 + [3])
    weights = balanced_weights(labels)
    assert weights.tolist() == pytest.approx([10 / 18, 0.0, 10 / 9, 10 / 3])
    assert float(weights[labels].mean()) == pytest.approx(1.0)


LOGITS = [torch.tensor([[2.0, 0.5], [0.0, 1.0], [1.0, 3.0]]), torch.tensor([[0.1, 0.2], [-2.0, 4.0], [0.5, 0.0]])]
LABELS, INDEX = torch.tensor([0, 0, 1]), torch.arange(3)


def test_the_loss_of_a_sample_is_multiplied_by_its_classes_weight():
    teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    weights = torch.tensor([0.75, 1.5])
    objective = Objective((1.0, 0.5), teacher, distillation=0.25, class_weights=weights)
    by_hand = 0.0
    for share, z in zip((1.0, 0.5), LOGITS, strict=True):
        loss = 0.25 * distillation_loss(z, teacher, 4.0) + 0.75 * label_loss(z, LABELS)
        by_hand += share * float((weights[LABELS] * loss).mean()) / 2
    assert float(objective(LOGITS, LABELS, INDEX)) == pytest.approx(by_hand, rel=1e-6)


def test_gates_and_class_weights_multiply():
    weights, gates = torch.tensor([2.0, 0.5]), torch.tensor([[1.0, 0.0, 2.0], [0.5, 1.0, 0.0]])
    objective = Objective((1.0, 1.0), gate=lambda *_: gates, class_weights=weights)
    each = [label_loss(z, LABELS) * gate * weights[LABELS] for z, gate in zip(LOGITS, gates, strict=True)]
    assert float(objective(LOGITS, LABELS, INDEX)) == pytest.approx(float(torch.stack(each).mean()), rel=1e-6)


def test_without_class_weights_an_objective_stays_as_it_is():
    objective = Objective((1.0,))
    assert objective.for_classes(FitSettings(), LABELS) is objective
    assert objective.for_classes(TRAINING, LABELS).class_weights.tolist() == [0.75, 1.5]


def test_settings_that_say_nothing_new_are_told_as_before():
    """Keys of what is on disk are made of them."""
    for settings in (FitSettings(), BackboneFitSettings()):
        assert "class_weights" not in settings.about()
        assert settings.about() == {k: v for k, v in settings.model_dump().items() if k != "class_weights"}
    assert TRAINING.about()["class_weights"] == "balanced"


def blobs(count, rare, seed):
    """Two overlapping clouds, the second with ``rare`` samples only."""
    random = torch.Generator().manual_seed(seed)
    labels = (torch.arange(count) >= count - rare).long()
    images = torch.randn(count, 1, 2, 2, generator=random) + 1.0 * labels[:, None, None, None]
    return TensorSplit(images, labels, identity(1))


def trained(class_weights, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    settings = FitSettings(epochs=4, batch_size=32, lr=0.05, schedule="constant", class_weights=class_weights)
    trainee = Trainee(model, lambda images: [model(images)], (model,))
    train, validation = blobs(510, 10, 0), blobs(1000, 100, 1)
    result = fit(trainee, train, validation, Objective((1.0,)), settings, device=CPU, seed=0, **options)
    return model, result, validation


def recall_of_the_rare(model, validation):
    rare = validation.subset(torch.nonzero(validation.labels == 1)[:, 0])
    return accuracy_of(lambda images: [model(images)], rare, CPU)[0]


def test_weights_help_a_rare_class():
    plain, weighted = (trained(kind)[::2] for kind in ("none", "balanced"))
    assert recall_of_the_rare(*weighted) > recall_of_the_rare(*plain) + 0.3


def test_a_fit_goes_by_the_accuracy_that_is_asked_for():
    model, result, validation = trained("balanced", accuracy="balanced")
    said = accuracy_of(lambda images: [model(images)], validation, CPU, None, "balanced")
    assert result.best == said
    assert [max(epoch) for epoch in result.accuracies][result.best_epoch] == max(map(max, result.accuracies))
    _, plain, _ = trained("balanced")
    assert plain.accuracies != result.accuracies


@pytest.fixture
def rare(prepared):
    """The toy data with a class of which there are four training samples."""
    train = prepared.data.train
    rows = torch.cat([torch.nonzero(train.labels == label)[:, 0][: 4 if label == 3 else 60] for label in range(4)])
    return dataclasses.replace(prepared.data, train=train.subset(rows.sort().values))


def test_side_by_side_a_branch_becomes_what_it_becomes_alone(prepared, rare, specs, store):
    settings = RegimeSettings(training=TRAINING)
    options = {"samples": None, "seed": 3, "device": CPU, "accuracy": "balanced"}
    features = store(0.0, data=rare)
    assert features.labels("train").tolist() == rare.train.labels.tolist()
    given = features, prepared.backbone, settings, TRAINING
    together = train_branches([BranchJob(spec) for spec in specs], *given, **options)
    for spec, one in zip(specs, together, strict=True):
        alone = train_branch(spec, *given, **options)
        assert alone.accuracies == one.accuracies
        assert torch.equal(alone.validation_logits, one.validation_logits)
        truth = rare.validation.labels.numpy()
        right = one.validation_logits.argmax(1).numpy() == truth
        best = max(accuracy for (accuracy,) in one.accuracies)
        assert best == pytest.approx(exact_accuracy(right, truth, "balanced"))
    plain = train_branch(specs[0], *given[:3], TRAINING.model_copy(update={"class_weights": "none"}), **options)
    assert not torch.equal(plain.validation_logits, together[0].validation_logits)


@pytest.mark.parametrize("regime", ["joint", "calex"])
def test_whole_networks_are_judged_by_it_too(prepared, rare, specs, regime):
    settings = RegimeSettings(name=regime, training=TRAINING)
    network, results = train_network(
        specs,
        prepared.backbone,
        rare,
        settings,
        2,
        initial=prepared.initial,
        teacher=None,
        samples=None,
        seed=0,
        device=CPU,
        accuracy="balanced",
    )
    said = accuracy_of(network, rare.validation, CPU, None, "balanced")
    exits = [result.added for result in results] if regime == "calex" else [0, 1, 2]
    for exit_ in exits:
        assert results[-1].best[exit_] == pytest.approx(said[exit_])


def test_survivors_thresholds_count_samples_as_the_accuracy_does():
    """Predicted as class 0 with the same confidence: 90 of class 0 and 10 of the rarer class 1."""
    measure = build_confidence("max-probability")
    truth = torch.tensor([0] * 90 + [1] * 40)
    logits = torch.zeros(130, 2)
    logits[:100, 0] = torch.linspace(3, 1, 100)
    logits[100:, 1] = 3.0
    found = {kind: cascade_thresholds(measure, [logits], logits, truth, 0.0, kind) for kind in ("plain", "balanced")}
    # The branch is the backbone: at no margin all may leave, by either precision.
    assert all(float(thresholds[0, 0]) <= 0 for thresholds in found.values())
    strict = {
        kind: cascade_thresholds(
            build_confidence("max-probability"), [logits], 10 * torch.eye(2)[truth], truth, 0.12, kind
        )
        for kind in ("plain", "balanced")
    }
    # A precision of 0.88: of 90 right ones, twelve samples of class 1 may leave beside them, or of their weight five.
    leaving = {kind: int((torch.softmax(logits[:100], 1)[:, 0] >= bar[0, 0]).sum()) for kind, bar in strict.items()}
    assert leaving["plain"] == 100
    assert leaving["balanced"] == 95
