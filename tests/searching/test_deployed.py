"""A network in another precision is judged as the blocks that are exported compute it."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import yaml
from onnx import numpy_helper

from aebnas.branches.spec import BranchSpec, NetworkSpec, PartSpec
from aebnas.costs.model import CostModel
from aebnas.data.splits import Split
from aebnas.devices.profile import HardwareProfile
from aebnas.errors import BackboneError
from aebnas.export import deployed as blocks
from aebnas.export.manifest import SINGLE_FILE
from aebnas.export.session import EarlyExitSession
from aebnas.files import write_text
from aebnas.progress import Progress
from aebnas.rebuild import CALIBRATION_SAMPLES, deployed_backbone, export_row, rebuild
from aebnas.run_folder import RunFolder
from aebnas.searching import deployed as module
from aebnas.searching import trainer as evaluating
from aebnas.searching.choice import CostLimits
from aebnas.searching.costing import Kind
from aebnas.searching.deployed import DeployedFeatures, DeployedLogits
from aebnas.searching.evaluation import StaticPoint
from aebnas.searching.evaluator import Evaluator
from aebnas.searching.loop import Archive
from aebnas.searching.rows import point_row, static_row
from aebnas.searching.statics import backbone_rows, retrain_truncated, truncated_rows
from aebnas.searching.verify import verify

CPU = torch.device("cpu")
PROFILE = HardwareProfile(name="paper", description="d", connection="none")
CONV = (PartSpec.of("conv", kernel=1), PartSpec("batch-norm"), PartSpec("relu"))


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "run")
    write_text(made.profile_file, yaml.safe_dump(PROFILE.model_dump(mode="json")))
    return made


@pytest.fixture
def open_evaluator(prepared, toy_experiment, folder):
    def make(**options):
        costs = CostModel(prepared.backbone, None)
        experiment = toy_experiment(**{"regime__training__epochs": 3, **options})
        every = {Kind(name, "max-probability"): costs for name in ("fp32", "fp16", "int8")}
        return Evaluator(experiment, prepared, every, folder, device=CPU, progress=Progress())

    return make


@pytest.fixture
def network(prepared):
    def make(precision, *numbers, regime="disjoint"):
        names = [prepared.backbone.attach_points[number].name for number in numbers or (0, 1)]
        return NetworkSpec(tuple(BranchSpec(name, CONV) for name in names), regime, precision=precision)

    return make


@pytest.fixture
def sabotaged(monkeypatch):
    """Every converted block has lost its weights: whatever is judged on it always says the first class."""
    real = blocks.convert

    def convert(block, precision, calibration, *, grid):
        for tensor in block.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                tensor.CopyFrom(numpy_helper.from_array(0 * numpy_helper.to_array(tensor), tensor.name))
        return real(block, precision, calibration, grid=grid)

    monkeypatch.setattr(blocks, "convert", convert)


@pytest.fixture
def unconvertible(monkeypatch):
    def fail(*_, **__):
        raise BackboneError("a part cannot be converted")

    monkeypatch.setattr(blocks, "convert", fail)


def images_of(split):
    return torch.cat([batch.images for batch in split.batches(512)]).numpy()


@pytest.mark.parametrize("regime", ["disjoint", "joint"])
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_the_exported_network_does_on_validation_what_its_evaluation_says(
    open_evaluator, network, prepared, folder, tmp_path, precision, regime
):
    """Every point of the curve, run from the exported files: the single file image by image, and staged."""
    made = open_evaluator(regime__name=regime).evaluate(network(precision, regime=regime))
    images, labels = images_of(prepared.data.validation), prepared.data.validation.labels.numpy()
    masks = {tuple(threshold is not None for threshold in point.thresholds) for point in made.curve.points}
    assert len(masks) > 1
    for number, point in enumerate(made.curve.points):
        row = point_row(made, number, point)
        out = export_row(row, rebuild(row, prepared, folder), prepared, tmp_path / f"{number}", PROFILE, folder)
        for mode in ("single", "staged"):
            found = EarlyExitSession(out).run(images, mode).labels
            # A threshold is the confidence of a sample: the last bits of two runtimes may decide of it.
            assert (found == labels).mean() == pytest.approx(point.accuracy, abs=1.5 / len(labels))


@pytest.mark.parametrize("regime", ["disjoint", "joint"])
def test_the_logits_that_are_judged_are_those_of_the_exported_file(
    open_evaluator, network, prepared, folder, tmp_path, regime
):
    spec = network("int8", regime=regime)
    evaluator = open_evaluator(regime__name=regime)
    made = evaluator.evaluate(spec)
    logits = DeployedLogits(prepared, folder, budget_gib=1, progress=Progress()).network(spec, made.weights)
    trained = evaluator.evaluate(dataclasses.replace(spec, precision="fp32"))
    images = images_of(prepared.data.validation)
    for cut, static in enumerate(made.truncated):
        row = static_row("cut", static, spec.branches, made.weights, cut=cut, precision="int8")
        out = export_row(row, rebuild(row, prepared, folder), prepared, tmp_path / f"{cut}", PROFILE, folder)
        session = ort.InferenceSession(out / SINGLE_FILE)
        exported = np.concatenate([session.run(["logits"], {"input": image[None]})[0] for image in images])
        np.testing.assert_array_equal(logits[cut].numpy(), exported)
        accuracy = (exported.argmax(1) == prepared.data.validation.labels.numpy()).mean()
        assert static.accuracy == pytest.approx(accuracy)
    assert trained.weights == made.weights
    assert trained.curve != made.curve


@pytest.mark.parametrize("regime", ["disjoint", "joint"])
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_all_that_is_judged_is_judged_as_converted(
    open_evaluator, network, prepared, folder, sabotaged, precision, regime
):
    evaluator = open_evaluator(regime__name=regime)
    made = evaluator.evaluate(network(precision, regime=regime))
    data = prepared.data
    chance, on_test = (float((split.labels == 0).float().mean()) for split in (data.validation, data.test))
    assert {point.accuracy for point in made.curve.points} == {chance}
    assert {static.accuracy for static in made.truncated} == {chance}
    assert evaluator.converted_backbones[precision].accuracy == chance
    assert evaluator.backbone.accuracy > chance + 0.2
    rows = [
        point_row(made, 0, made.curve.points[0]),
        static_row("cut", made.truncated[0], made.spec.branches, made.weights, cut=0, precision=precision),
        static_row(f"backbone-{precision}", evaluator.backbone, precision=precision),
    ]
    options = {"accelerator": CPU, "limits": CostLimits({}), "target": None, "progress": Progress()}
    assert [row["accuracy_test"] for row in verify(rows, prepared, folder, **options)] == [on_test] * 3


def test_fp32_is_judged_without_converting(open_evaluator, network, unconvertible):
    assert open_evaluator().evaluate(network("fp32")).failure is None


@pytest.mark.parametrize("regime", ["disjoint", "joint"])
def test_a_network_is_trained_once_for_all_precisions(open_evaluator, network, monkeypatch, regime):
    trained = []
    for name, many in (("train_branches", list), ("train_network", lambda specs: [specs])):
        real = getattr(evaluating, name)

        def spy(what, *a, real=real, many=many, **k):
            trained.extend(many(what))
            return real(what, *a, **k)

        monkeypatch.setattr(evaluating, name, spy)
    evaluator = open_evaluator(regime__name=regime)
    made = [evaluator.evaluate(network(precision, regime=regime)) for precision in ("int8", "fp32", "fp16")]
    assert len(trained) == (2 if regime == "disjoint" else 1)
    assert len({one.id for one in made}) == 3
    assert made[0].weights == made[1].weights == made[2].weights


@pytest.mark.parametrize("regime", ["disjoint", "joint"])
def test_what_was_converted_is_not_converted_again(open_evaluator, network, folder, monkeypatch, regime):
    before = open_evaluator(regime__name=regime).evaluate(network("int8", regime=regime))
    shutil.rmtree(folder.evaluations)

    def fail(*_, **__):
        raise AssertionError("converted again")

    monkeypatch.setattr(blocks, "convert", fail)
    again = open_evaluator(regime__name=regime).evaluate(network("int8", regime=regime))
    assert again.curve == before.curve


def test_on_a_frozen_backbone_a_branch_is_run_once(open_evaluator, network, monkeypatch):
    evaluator, opened = open_evaluator(), []
    evaluator.evaluate(network("int8", 0))
    real = module.BlockSession
    monkeypatch.setattr(module, "BlockSession", lambda block: (opened.append(block), real(block))[1])
    evaluator.evaluate(network("int8", 0, 1))
    assert len(opened) == 1  # the other branch, on features that are there


def test_a_network_that_cannot_be_converted_is_a_failed_candidate(open_evaluator, network, unconvertible):
    assert open_evaluator().evaluate(network("int8")).failure == "a part cannot be converted"


def test_a_backbone_that_cannot_be_converted_ends_the_search(open_evaluator, unconvertible):
    with pytest.raises(BackboneError, match="cannot be converted"):
        open_evaluator().converted_backbones


def test_damaged_blocks_are_made_again(open_evaluator, network, folder, caplog):
    before = open_evaluator().evaluate(network("int8", 0))
    keys = folder.deployed.keys()
    for key in keys:
        path = folder.deployed.path(key)
        path.write_bytes(path.read_bytes()[:100])
    shutil.rmtree(folder.evaluations)
    assert open_evaluator().evaluate(network("int8", 0)).curve == before.curve
    assert folder.deployed.keys() == keys
    assert caplog.text.count(".pt is damaged (cut short") == len(keys)


class Shaky(Split):
    """A split with random transforms: no two passes over it are equal."""

    def __init__(self, split):
        self.labels, self._split = split.labels, split

    def batches(self, batch_size, *, seed=None):
        for batch in self._split.batches(batch_size, seed=seed):
            yield batch._replace(images=batch.images + 1e-3 * torch.randn(batch.images.shape))

    def subset(self, indices):
        return Shaky(self._split.subset(indices))


def test_a_run_is_calibrated_on_one_draw_of_training_images(prepared, folder, monkeypatch):
    seen, real = [], blocks.convert

    def spy(block, precision, calibration, *, grid):
        seen.append(calibration)
        return real(block, precision, calibration, grid=grid)

    monkeypatch.setattr(blocks, "convert", spy)
    shaky = dataclasses.replace(prepared, data=dataclasses.replace(prepared.data, train=Shaky(prepared.data.train)))
    for _ in range(2):
        assert deployed_backbone(shaky, "int8", folder).blocks
        for path in folder.deployed.path("x").parent.iterdir():
            if "block" in folder.deployed.get(path.stem):
                path.unlink()
    first, again = seen[0], seen[len(seen) // 2]
    np.testing.assert_array_equal(first, again)
    train = images_of(prepared.data.train)
    assert first.shape == (CALIBRATION_SAMPLES, *train.shape[1:])
    distances = np.abs(first[:5, None] - train[None]).max((2, 3, 4)).min(1)
    assert (distances < 0.01).all()


@pytest.fixture
def features(prepared, folder):
    def make(precision="int8", budget=1 << 30, verify=False):
        return DeployedFeatures(
            deployed_backbone(prepared, precision, folder),
            prepared.data.validation,
            [point.shape for point in prepared.backbone.attach_points],
            classes=prepared.backbone.num_classes,
            folder=folder.features,
            budget=budget,
            progress=Progress(),
            verify=verify,
        )

    return make


def stored(folder):
    return sorted(path.suffix for path in folder.features.iterdir() if path.is_file())


@pytest.mark.parametrize(("precision", "suffix"), [("int8", ".u8"), ("fp16", ".f32")])
def test_features_come_back_to_the_last_bit(features, folder, precision, suffix):
    kept = features(precision)
    assert stored(folder) == sorted([suffix, suffix, ".f32", ".json"])
    found = [list(kept.batches(point)) for point in range(2)]
    computed = features(precision, budget=0)
    for point in range(2):
        for got, expected in zip(found[point], computed.batches(point), strict=True):
            np.testing.assert_allclose(got, expected, rtol=0, atol=0 if precision == "int8" else 1e-3)
    assert torch.equal(computed.logits, kept.logits)


def deepest_bytes(prepared):
    return len(prepared.data.validation) * int(np.prod(prepared.backbone.attach_points[-1].shape))


def test_of_features_that_do_not_fit_the_deepest_are_kept(features, folder, prepared):
    deepest = deepest_bytes(prepared)
    features(budget=deepest)
    assert [path.stat().st_size for path in folder.features.glob("*.u8")] == [deepest]
    again = features(budget=deepest - 1)
    assert list(folder.features.glob("*.u8")) == []
    assert len(list(again.batches(1))) == 1
    features()
    assert len(list(folder.features.glob("*.u8"))) == 2


def test_the_budget_is_that_of_all_features_in_the_folder(features, folder, prepared):
    deepest = deepest_bytes(prepared)
    folder.features.mkdir(parents=True)
    (folder.features / "other-train-3.f16").write_bytes(b"x" * 100)
    (folder.features / "other-train-logits.f32").write_bytes(b"x" * 100)  # what is no features does not count
    features(budget=deepest + 99)
    assert list(folder.features.glob("*.u8")) == []
    features(budget=deepest + 100)
    assert len(list(folder.features.glob("*.u8"))) == 1
    kept = features(budget=deepest + 100)  # its own files do not stand in its way
    assert len(list(kept.batches(1))) == 1
    assert len(list(folder.features.glob("*.u8"))) == 1


def test_features_that_are_there_are_not_computed_again(features, folder, monkeypatch):
    first = features()
    monkeypatch.setattr(module, "BlockSession", None)
    again = features(verify=True)
    assert torch.equal(again.logits, first.logits)
    assert [batch.shape for batch in again.batches(0)] == [batch.shape for batch in first.batches(0)]


@pytest.mark.parametrize("file", ["*-0.u8", "*-logits.f32"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_features_are_computed_again_with_a_line(features, folder, caplog, file, damage):
    first = features()
    expected, logits = [np.array(batch) for batch in first.batches(0)], first.logits.clone()
    path = next(folder.features.glob(file))
    whole = path.read_bytes()
    path.unlink()  # the mapping of the first one stays as it is
    path.write_bytes(whole[:-1] if damage == "cut" else whole[:9] + bytes([whole[9] ^ 1]) + whole[10:])
    again = features(verify=True)
    for got, before in zip(again.batches(0), expected, strict=True):
        np.testing.assert_array_equal(got, before)
    assert torch.equal(again.logits, logits)
    assert f"{path.name} is damaged: the int8 features of the validation split are computed again" in caplog.text


def test_every_backbone_is_a_row_and_stands_in_the_way_of_the_front(open_evaluator):
    evaluator = open_evaluator()
    converted = evaluator.converted_backbones
    assert list(converted) == ["fp16", "int8"]
    made = Archive(evaluator.backbone, "macs", CostLimits({}), converted)
    assert made.statics() == [evaluator.backbone, converted["fp16"], converted["int8"]]
    rows = backbone_rows(made)
    assert [(row["id"], row["precision"]) for row in rows] == [
        ("backbone", "fp32"),
        ("backbone-fp16", "fp16"),
        ("backbone-int8", "int8"),
    ]
    assert [row["accuracy_val"] for row in rows] == [static.accuracy for static in made.statics()]


@pytest.fixture
def both(evaluation):
    """The same branch in two precisions, neither of which the other beats."""

    def make(budget):
        def cut(accuracy, macs):
            return StaticPoint(accuracy, {"macs": float(macs), "latency_ms": 1.0})

        plain = evaluation([], truncated=[cut(0.88, 40)], budget=budget)
        small = dataclasses.replace(plain.spec, precision="int8")
        return plain, dataclasses.replace(plain, spec=small, truncated=(cut(0.86, 20),))

    return make


def test_a_branch_is_a_truncated_network_of_its_own_in_every_precision(both, archive):
    plain, small = both("final")
    key = plain.weights["branches"][0][:8]
    rows = truncated_rows(archive(plain, small))
    assert {(row["id"], row["precision"]) for row in rows} == {(f"cut-{key}", "fp32"), (f"cut-{key}-int8", "int8")}


def test_truncated_networks_are_retrained_in_their_precision(both, archive):
    seen = []

    class Trainer:
        def work(self, spec):
            return 0

        def evaluate(self, spec, budget, stage):
            seen.append((spec.precision, budget))
            return next(one for one in both("final") if one.spec == spec)

    made = archive(*both("search"))
    retrain_truncated(made, Trainer(), Progress())
    assert sorted(seen) == [("fp32", "final"), ("int8", "final")]
    assert [one.budget for one in made.evaluations.values()] == ["final", "final"]
