"""A whole network whose training is stopped and gone on with, against the one that was left alone."""

from __future__ import annotations

import pytest
import torch

from aebnas.training.candidates import resumable, train_network
from aebnas.training.regimes import REGIMES
from aebnas.training.settings import CgtSettings, FitSettings, RegimeSettings, SequentialSettings

CPU = torch.device("cpu")
TRAINING = FitSettings(epochs=3, batch_size=32, lr=0.02)
CASES = {
    "joint": RegimeSettings(name="joint", training=TRAINING),
    "mixed": RegimeSettings(name="mixed", target="backbone", training=TRAINING),
    "taught by the last": RegimeSettings(
        name="mixed", target="final", gradients="equilibrium", weighting="ramp", training=TRAINING
    ),
    "cgt-hard": RegimeSettings(name="cgt-hard", training=TRAINING),
    "cgt-soft": RegimeSettings(name="cgt-soft", cgt=CgtSettings(anneal=True), training=TRAINING),
}


@pytest.fixture
def teach(prepared, specs):
    def run(settings, **options):
        return train_network(
            specs,
            prepared.backbone,
            prepared.data,
            settings,
            TRAINING.epochs,
            initial=prepared.initial,
            teacher=None,
            samples=150,
            seed=5,
            device=CPU,
            **options,
        )

    return run


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
@pytest.mark.parametrize("cascade", ["none", "both"])
def test_stopped_and_gone_on_with_it_is_the_network_that_was_left_alone(teach, settings, cascade):
    assert resumable(settings)
    whole, expected = teach(settings, cascade=cascade)
    asked = []
    _, stopped = teach(settings, cascade=cascade, watch=lambda *told: asked.append(told) or len(asked) < 2)
    assert asked == [(number, expected[-1].accuracies[number - 1]) for number in (1, 2)]
    assert expected[-1].paused is None
    torch.manual_seed(99)
    network, results = teach(settings, cascade=cascade, resume=stopped[-1].paused)
    assert results == expected
    assert results[-1].paused is None
    pairs = zip(network.state_dict().values(), whole.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_stopped_network_has_the_weights_of_its_best_epoch_so_far(teach, prepared):
    network, (result,) = teach(CASES["mixed"], watch=lambda epochs, _: epochs < 2)
    images = torch.cat([batch.images for batch in prepared.data.validation.batches(512)])
    right = [(z.argmax(1) == prepared.data.validation.labels).float().mean() for z in network(images)]
    assert [float(share) for share in right] == pytest.approx(result.best)
    assert len(result.accuracies) == 2


def test_only_where_all_exits_train_at_once_training_can_be_stopped():
    found = {name for name in REGIMES if resumable(RegimeSettings(name=name))}
    assert found == {"joint", "mixed", "cgt-hard", "cgt-soft"}
    for protection in ("none", "frozen", "ewc", "lwf", "interval"):
        assert not resumable(RegimeSettings(name="sequential", sequential=SequentialSettings(protection=protection)))


@pytest.mark.parametrize("options", [{"watch": lambda *_: True}, {"resume": {}}])
@pytest.mark.parametrize("name", ["sequential", "calex"])
def test_others_cannot(teach, name, options):
    with pytest.raises(ValueError, match=f"under regime {name} cannot be stopped"):
        teach(RegimeSettings(name=name, training=TRAINING), **options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("mixed", [False, True])
def test_cuda_trains_a_network_as_good(prepared, specs, mixed):
    def accuracies(device):
        _, results = train_network(
            specs,
            prepared.backbone,
            prepared.data,
            CASES["mixed"],
            TRAINING.epochs,
            initial=None,
            teacher=None,
            samples=None,
            seed=5,
            device=torch.device(device),
            mixed=mixed,
        )
        return results[-1].best

    assert accuracies("cuda") == pytest.approx(accuracies("cpu"), abs=0.15)
