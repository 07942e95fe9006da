"""Features of augmented images in copies, several attach points at once, and what the teacher says of them."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from aebnas.data.augment import Augment, altered
from aebnas.data.settings import AugmentSettings
from aebnas.data.splits import TensorSplit
from aebnas.training import passes
from aebnas.training.candidates import train_branch
from aebnas.training.features import GIB
from aebnas.training.settings import FitSettings, RegimeSettings

LOOKS = AugmentSettings(flip=True, shift=2)
ROWS = torch.tensor([7, 3, 200, 11, 150])


@pytest.fixture(scope="module")
def data(prepared):
    """The toy data, with training images that are flipped and shifted."""
    train = prepared.data.train
    augment = Augment(LOOKS, len(train))
    augmented = TensorSplit(train.images, train.labels, train.preprocessing, augment)
    return dataclasses.replace(prepared.data, train=augmented)


def everything(split, **options):
    batches = list(split.batches(50, **options))
    return [torch.cat([batch[part] for batch in batches]) for part in range(3)]


def budget_of(prepared, copies, *points):
    samples = copies * len(prepared.data.train) + len(prepared.data.validation)
    return sum(2 * samples * math.prod(prepared.backbone.attach_points[point].shape) for point in points) / GIB


def images_of(data, copy):
    """The training images of one copy, as the backbone sees them; the first is of the plain ones."""
    train = data.train
    looks = train.augment.looks(copy) if copy else torch.zeros(len(train), 3, dtype=torch.int64)
    return train.preprocessing.apply(altered(train.images, looks))


def places(prepared, seed):
    return torch.cat([batch.index for batch in prepared.data.train.batches(50, seed=seed)])


@pytest.mark.parametrize("budget", [0.0, 1.0])
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 7])
def test_an_epoch_is_over_the_copy_that_its_seed_gives(store, prepared, data, budget, seed):
    split = store(budget, data=data, copies=3).split("train", 1)
    index, features, labels = everything(split, seed=seed)
    copy, order = seed % 3, places(prepared, seed)
    direct = prepared.backbone.features(images_of(data, copy))[1]
    torch.testing.assert_close(features, direct[order], rtol=2e-3, atol=2e-3)
    assert torch.equal(index, order + copy * len(data.train))
    assert torch.equal(labels, data.train.labels[order])


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_without_a_seed_the_plain_images_are_read(store, prepared, data, budget):
    split = store(budget, data=data, copies=3).split("train", 0)
    index, features, _ = everything(split)
    plain = prepared.backbone.features(torch.cat([b.images for b in prepared.data.train.batches(512)]))[0]
    torch.testing.assert_close(features, plain, rtol=2e-3, atol=2e-3)
    assert torch.equal(index, torch.arange(len(data.train)))


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_with_one_copy_every_epoch_is_over_the_plain_images(store, prepared, data, budget):
    """Whether features are kept or computed, for what is kept are those of the plain images."""
    split = store(budget, data=data).split("train", 1)
    index, features, _ = everything(split, seed=5)
    plain = prepared.backbone.features(torch.cat([b.images for b in prepared.data.train.batches(512)]))[1]
    torch.testing.assert_close(features, plain[index], rtol=2e-3, atol=2e-3)


def test_copies_count_in_the_budget_and_validation_has_one(store, prepared, data, tmp_path):
    assert store(budget_of(prepared, 3, 1), data=data, copies=3).cached_points == {1}
    assert store(0.999 * budget_of(prepared, 3, 1), data=data, copies=3).cached_points == set()
    kept = store(1.0, data=data, copies=3)
    size = sum(path.stat().st_size for path in (tmp_path / "features").glob("*.f16"))
    assert size == round(budget_of(prepared, 3, 0, 1) * GIB)
    index, _, _ = everything(kept.split("validation", 1), seed=2)
    assert int(index.max()) == len(data.validation) - 1


def test_another_number_of_copies_is_computed_anew(store, data):
    three = everything(store(data=data, copies=3).split("train", 1), seed=1)
    two = everything(store(data=data, copies=2).split("train", 1), seed=1)
    assert torch.equal(three[1], two[1])  # the looks of a copy do not depend on how many there are
    assert len(store(data=data, copies=2).teacher()) == 2 * len(data.train)


def test_the_teacher_speaks_of_the_image_that_the_index_means(store, prepared, data):
    features = store(data=data, copies=3)
    teacher = features.teacher()
    direct = torch.cat([prepared.backbone(images_of(data, copy)) for copy in range(3)])
    torch.testing.assert_close(teacher, direct)
    assert torch.equal(features.logits("train"), teacher[: len(data.train)])
    for seed in (None, 1, 2):
        index, _, _ = everything(features.split("train", 0), seed=seed)
        copy = 0 if seed is None else seed % 3
        order = torch.arange(len(data.train)) if seed is None else places(prepared, seed)
        said = direct[copy * len(data.train) :][: len(data.train)]
        torch.testing.assert_close(teacher[index], said[order])


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_the_teacher_of_a_subset_speaks_of_its_samples(store, data, budget):
    features = store(budget, data=data, copies=3)
    part, teacher = features.split("train", 1).subset(ROWS), features.teacher(ROWS)
    assert teacher.shape == (3 * len(ROWS), 4)
    whole = features.teacher().reshape(3, len(data.train), -1)
    for seed in (None, 0, 1, 2):
        index, _, labels = everything(part, seed=seed)
        copy = 0 if seed is None else seed % 3
        rows = ROWS[index - copy * len(ROWS)]
        assert torch.equal(teacher[index], whole[copy][rows])
        assert torch.equal(labels, data.train.labels[rows])


@pytest.mark.parametrize("budget", [0.0, 1.0])
@pytest.mark.parametrize("samples", [None, 100])
@pytest.mark.parametrize(("regime", "cascade"), [("calex", "none"), ("disjoint", "inputs")])
def test_branches_that_hear_of_others_learn_from_the_plain_images(
    store, prepared, data, specs, budget, samples, regime, cascade
):
    """What those say of altered images is not known; in a comparison they stand beside who learns from such."""
    training = FitSettings(epochs=3, batch_size=32)
    settings = RegimeSettings(name=regime, training=training)

    def taught(features):
        trained = []
        for spec in specs:
            options = {"samples": samples, "seed": 4, "device": torch.device("cpu"), "cascade": cascade}
            made = train_branch(spec, features, prepared.backbone, settings, training, earlier=trained, **options)
            trained.append(made)
        return torch.stack([made.validation_logits for made in trained])

    copies = taught(store(budget, data=data, copies=3))
    assert torch.equal(copies, taught(store(budget, data=prepared.data)))


@pytest.fixture(params=["none", "the deeper one", "all"])
def some(request, store, prepared, data):
    """A store that keeps none, one or both of its attach points, in two copies."""
    kept = {"none": (), "the deeper one": (1,), "all": (0, 1)}[request.param]
    made = store(budget_of(prepared, 2, *kept), data=data, copies=2)
    assert made.cached_points == set(kept)
    return made


@pytest.mark.parametrize("name", ["train", "validation"])
@pytest.mark.parametrize("points", [[0], [1], [0, 1], [1, 0]])
@pytest.mark.parametrize("seed", [None, 4, 5])
def test_points_that_are_read_together_are_as_each_alone(some, name, points, seed):
    both = some.together(name, points)
    assert len(both) == len(some.logits(name))
    for view, alone in (
        (both, {point: some.split(name, point) for point in points}),
        (both.subset(ROWS % 80), {point: some.split(name, point).subset(ROWS % 80) for point in points}),
    ):
        batches = list(view.batches(50, seed=seed))
        assert torch.equal(view.labels, alone[points[0]].labels)
        for point, split in alone.items():
            for batch, single in zip(batches, split.batches(50, seed=seed), strict=True):
                assert torch.equal(batch.features[point], single.images)
                assert torch.equal(batch.index, single.index)
                assert torch.equal(batch.labels, single.labels)
                assert set(batch.features) == set(points)


def test_points_that_are_not_kept_share_one_pass(store, prepared, data, monkeypatch):
    runs = []
    for number, segment in enumerate(prepared.backbone.segments):
        real = segment.forward
        monkeypatch.setattr(segment, "forward", lambda x, real=real, number=number: (runs.append(number), real(x))[1])
    none = store(0.0, data=data)
    runs.clear()
    list(none.together("train", [0, 1]).batches(len(data.train)))
    assert runs == [0, 1]
    runs.clear()
    list(none.together("train", [0]).batches(len(data.train)))
    assert runs == [0]  # no further than it must


def test_large_features_are_computed_in_small_pieces(store, prepared, data, monkeypatch):
    """Batches that are trained on are as large as asked for, others may be smaller; what is in them is the same."""
    shapes = [point.shape for point in prepared.backbone.attach_points]
    sample = 4 * sum(map(math.prod, shapes))
    assert passes.batch_limit(shapes, torch.device("cpu")) == (1 << 25) // sample
    assert passes.batch_limit([(1 << 30,)], torch.device("cpu")) == 1
    whole = {budget: store(budget, data=data, copies=2) for budget in (1.0, budget_of(prepared, 2, 1), 0.0)}
    expected = {budget: list(one.together("train", [0, 1]).batches(100, seed=1)) for budget, one in whole.items()}
    monkeypatch.setitem(passes.BATCH_BYTES, "cpu", 20 * sample)
    sizes, segment = [], prepared.backbone.segments[0]
    real = segment.forward
    monkeypatch.setattr(segment, "forward", lambda x: (sizes.append(len(x)), real(x))[1])
    for budget, before in expected.items():
        small = store(budget, data=data, copies=2)
        for view in (small.together("train", [0, 1]), small.split("train", 0), small.split("train", 1)):
            batches = [len(batch.labels) for batch in view.batches(512)]
            assert sum(batches) == 240
            assert max(batches) < 120
            assert [len(batch.labels) for batch in view.batches(200, seed=1)] == [200, 40]
        for got, wanted in zip(small.together("train", [0, 1]).batches(100, seed=1), before, strict=True):
            assert torch.equal(got.index, wanted.index)
            for point in range(2):
                torch.testing.assert_close(got.features[point], wanted.features[point])
    assert max(sizes) == 20
