"""Features of the frozen backbone: kept or computed again, they are the same."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.utils.data import TensorDataset

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.data.load import bundle_from_datasets
from aebnas.errors import RunError, RunFailed
from aebnas.training.features import GIB

HALF = 2  # bytes of a half-precision number


def size_gib(prepared, *points):
    samples = len(prepared.data.train) + len(prepared.data.validation)
    return sum(HALF * samples * math.prod(prepared.backbone.attach_points[p].shape) for p in points) / GIB


def everything(split, **options):
    batches = list(split.batches(50, **options))
    return [torch.cat([batch[part] for batch in batches]) for part in range(3)]


@pytest.mark.parametrize("name", ["train", "validation"])
@pytest.mark.parametrize("point", [0, 1])
def test_kept_features_are_those_that_are_computed(store, prepared, name, point):
    kept, computed = store(1.0).split(name, point), store(0.0).split(name, point)
    source = getattr(prepared.data, name)
    images = torch.cat([batch.images for batch in source.batches(512)])
    direct = prepared.backbone.features(images)[point]
    for split, tolerance in ((kept, 1e-3), (computed, 1e-6)):
        index, features, labels = everything(split)
        torch.testing.assert_close(features, direct, rtol=tolerance, atol=tolerance)
        assert features.dtype == torch.float32
        assert torch.equal(index, torch.arange(len(source)))
        assert torch.equal(labels, source.labels)
        assert torch.equal(split.labels, source.labels)


@pytest.mark.parametrize("name", ["train", "validation"])
def test_logits_are_those_of_the_backbone(store, prepared, name):
    images = torch.cat([batch.images for batch in getattr(prepared.data, name).batches(512)])
    torch.testing.assert_close(store().logits(name), prepared.backbone(images))


def test_the_deepest_points_are_kept_first(store, prepared):
    first, last = size_gib(prepared, 0), size_gib(prepared, 1)
    assert last < first
    assert store(0.0).cached_points == frozenset()
    assert store(0.999 * last).cached_points == frozenset()
    assert store(last).cached_points == {1}
    # A shallow point that would fit alone is not kept in the place of a deeper one.
    assert store(first).cached_points == {1}
    assert store(first + last).cached_points == {0, 1}


def test_no_more_bytes_are_kept_than_the_budget_allows(store, prepared, tmp_path):
    budget = size_gib(prepared, 1)
    store(budget)
    kept = sum(path.stat().st_size for path in (tmp_path / "features").glob("*.f16"))
    assert 0 < kept <= budget * GIB


def test_an_opened_store_computes_nothing_again(store, monkeypatch):
    before = everything(store().split("train", 0))

    def refuse(*_):
        raise AssertionError("features were computed again")

    monkeypatch.setattr(SegmentedBackbone, "features", refuse)
    again = store()
    assert all(map(torch.equal, everything(again.split("train", 0)), before))
    with pytest.raises(AssertionError, match="computed again"):
        store(key="of another backbone")


def test_more_budget_keeps_more(store, prepared):
    store(size_gib(prepared, 1))
    kept = store(1.0)
    torch.testing.assert_close(
        everything(kept.split("train", 0))[1], everything(store(0.0).split("train", 0))[1], rtol=1e-3, atol=1e-3
    )


def test_the_backbone_stays_where_it_is(store, prepared):
    """Who measures a branch behind a piece of it has both on the CPU, whatever branches train on."""
    store(0.0)
    near = store(0.0, device=torch.device("meta"))
    assert all(tensor.device.type == "cpu" for tensor in prepared.backbone.state_dict().values())
    assert next(near.split("train", 0).batches(8)).images.device.type == "meta"


@pytest.mark.parametrize("part", ["train-1.f16", "validation-0.f16", "train-logits.f32"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_file_that_is_not_whole_is_made_again_with_a_line(store, tmp_path, caplog, part, damage):
    before = everything(store().split("train", 1))
    (file,) = (tmp_path / "features").glob(f"*-{part}")
    whole = file.read_bytes()
    if damage == "truncated":
        file.write_bytes(whole[:-7])
    else:
        file.unlink()
    assert all(map(torch.equal, everything(store().split("train", 1)), before))
    assert file.read_bytes() == whole
    assert f"{part} is damaged: the features of the {part.split('-')[0]} split are computed again" in caplog.text


@pytest.mark.parametrize("part", ["train-1.f16", "validation-0.f16", "train-logits.f32"])
def test_one_flipped_bit_is_found_when_it_is_looked_for(store, tmp_path, caplog, part):
    before = everything(store(verify=True).split("train", 1))
    assert caplog.text == ""
    (file,) = (tmp_path / "features").glob(f"*-{part}")
    whole = file.read_bytes()
    file.write_bytes(whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
    store()
    assert caplog.text == ""  # reading gigabytes is for the one process that opens them first
    assert all(map(torch.equal, everything(store(verify=True).split("train", 1)), before))
    assert file.read_bytes() == whole
    assert f"{part} is damaged" in caplog.text


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"0": 3}', '{"0": {"dtype": "x", "shape": 1, "crc32": 1}}'])
def test_features_without_their_sums_are_computed_again(store, tmp_path, text):
    before = everything(store().split("train", 1))
    for path in (tmp_path / "features").glob("*.json"):
        path.write_text(text)
    assert all(map(torch.equal, everything(store(verify=True).split("train", 1)), before))


def test_less_budget_or_another_dtype_frees_the_disk(store, prepared, tmp_path):
    kept = store()
    assert len(stored(tmp_path)) == 2 * 3 + 2
    store(size_gib(prepared, 1))
    assert len(stored(tmp_path)) == 2 * 2 + 2
    assert len(everything(kept.split("train", 0))[1])  # whoever has them open reads on
    store(dtype="fp32", budget_gib=1.0)
    assert {path.suffix for path in stored(tmp_path)} == {".f32", ".json"}


def test_features_of_an_older_version_and_half_written_ones_are_taken_away(store, tmp_path):
    store()
    (sums,) = (tmp_path / "features").glob("*-train.json")
    name = sums.stem
    for left in (f"{name}-logits.npy", f".{name}-0.f16.abc.tmp"):
        sums.with_name(left).touch()
    sums.unlink()
    store()
    assert len(stored(tmp_path)) == 2 * 3 + 2


def test_full_precision_is_kept_to_the_last_bit(store, prepared):
    kept, computed = store(dtype="fp32", budget_gib=1.0), store(0.0)
    for point in range(2):
        torch.testing.assert_close(
            everything(kept.split("train", point))[1], everything(computed.split("train", point))[1], rtol=0, atol=1e-6
        )
    assert store(2 * size_gib(prepared, 1), dtype="fp32").cached_points == {1}
    assert store(1.9 * size_gib(prepared, 1), dtype="fp32").cached_points == set()


def test_what_is_done_to_logits_changes_no_file(store):
    found = store().logits("train")
    before = found.clone()
    found.zero_()
    assert torch.equal(store(verify=True).logits("train"), before)


def test_a_full_disk_is_told_and_leaves_nothing_half_written(store, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(RunFailed, match=r"cannot write .*No space left on device"):
        patch.setattr("zlib.crc32", full)  # where a chunk is about to be written
        store()
    assert stored(tmp_path) == []
    assert len(store().logits("train")) == 240


def test_a_folder_that_cannot_be_written_is_named(store, tmp_path):
    (tmp_path / "features").touch()
    with pytest.raises(RunError, match=r"cannot write .*features"):
        store()


def stored(tmp_path):
    return sorted(path for path in (tmp_path / "features").iterdir() if path.name != ".locks")


def test_nothing_half_written_is_left_when_computing_fails(store, tmp_path, monkeypatch):
    calls = []

    def fails_in_the_second_split(self, x):
        calls.append(len(x))
        if sum(calls) > 240:
            raise KeyboardInterrupt
        return features(self, x)

    features = SegmentedBackbone.features
    monkeypatch.setattr(SegmentedBackbone, "features", fails_in_the_second_split)
    with pytest.raises(KeyboardInterrupt):
        store()
    names = {path.name.partition("-")[2] for path in stored(tmp_path)}
    assert names == {"train-0.f16", "train-1.f16", "train-logits.f32", "train.json"}


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_batches_follow_the_seed_whether_kept_or_computed(store, prepared, budget):
    index, _, labels = everything(store(budget).split("train", 1), seed=3)
    expected = [batch.index for batch in prepared.data.train.batches(50, seed=3)]
    assert torch.equal(index, torch.cat(expected))
    assert torch.equal(labels, prepared.data.train.labels[index])


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_a_subset_has_the_features_of_its_rows_and_numbers_them_anew(store, budget):
    whole = store(budget).split("train", 1)
    rows = torch.tensor([7, 3, 200, 11])
    part = whole.subset(rows)
    index, features, labels = everything(part)
    torch.testing.assert_close(features, everything(whole)[1][rows], rtol=1e-4, atol=1e-5)
    assert torch.equal(labels, whole.labels[rows])
    assert torch.equal(part.labels, labels)
    # As with every split, an index is a position within the subset, and so are those of a subset of it.
    assert torch.equal(index, torch.arange(4))
    torch.testing.assert_close(everything(part.subset(torch.tensor([2])))[1], features[2:3])


def test_an_activation_beyond_half_precision_stays_finite(store, prepared):
    loud = copy.deepcopy(prepared.backbone)
    with torch.no_grad():
        for name, parameter in loud.named_parameters():
            if name.startswith("model.features.1."):  # the first batch-norm
                parameter.mul_(1e7)
    features = everything(store(backbone=loud).split("train", 0))[1]
    assert float(features.max()) == 65504
    assert bool(torch.isfinite(features).all())


def test_features_of_datasets_that_are_read_item_by_item(store, prepared):
    def dataset(split):
        return TensorDataset(torch.cat([batch.images for batch in split.batches(512)]), split.labels)

    data = prepared.data
    bundle = bundle_from_datasets(dataset(data.train), dataset(data.test), validation=dataset(data.validation))
    found = everything(store(key="items", data=bundle).split("train", 0))
    torch.testing.assert_close(found, everything(store().split("train", 0)))
