"""Trying an experiment out: what is found, and what each mistake is told as."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from aebnas.data.splits import Batch, TensorSplit
from aebnas.devices.crowded import Crowd
from aebnas.errors import ExperimentError
from aebnas.starting import check, deploy, disk, doctor, estimate
from aebnas.starting.check import Step, try_out
from aebnas.starting.estimate import Estimate

CHAIN = ["data", "backbone", "forward pass", "attach points", "split", "ONNX", "disk", "device", "time"]


@pytest.fixture
def tried(toy_experiment, tmp_path):
    """Try the toy experiment with dotted keys changed; return whether all went well, and the steps by name."""

    def go(**options) -> tuple[bool, dict[str, Step]]:
        steps: list[Step] = []
        experiment = toy_experiment(**options)
        well = try_out(experiment, run_dir=tmp_path / "run", tell=steps.append)
        assert not (tmp_path / "run").exists()
        return well, {step.what: step for step in steps}

    return go


def test_an_experiment_that_runs(tried):
    well, steps = tried()
    assert well and list(steps) == CHAIN
    assert all(step.ok and step.seconds >= 0 for step in steps.values())
    assert steps["data"].text == "240 training, 80 validation, 120 test images of 1x8x8, 4 classes"
    assert "is trained for 6 epochs first" in steps["backbone"].text
    assert "2 of" in steps["attach points"].text
    assert "3 segments give what the backbone gives" in steps["split"].text
    assert "run in onnxruntime" in steps["ONNX"].text
    assert "MiB (cache_gib 6)" in steps["disk"].text
    assert steps["device"].text == "paper is not measured on: MACs and sizes only"
    assert "an estimate" in steps["time"].text and "4 trials" in steps["time"].text


def test_one_batch_is_enough_for_a_forward_pass(tried, monkeypatch):
    read = []

    def batches(self, batch_size, *, order, look):
        for batch in real(self, batch_size, order=order, look=look):
            read.append(len(batch.labels))
            yield batch

    real = TensorSplit.read
    with monkeypatch.context() as patch:
        patch.setattr(TensorSplit, "read", batches)
        patch.setattr(check, "estimate", lambda *_, **__: Estimate({}))
        tried()
    assert read == [16]


def test_macs_are_those_of_the_front(tried, finished):
    """Of a backbone whose batch-norm and pooling the front counts as well."""
    backbone = next(row for row in finished.rows if row["id"] == "backbone")
    _, steps = tried()
    assert f" of {backbone['macs_mean'] / 1e6:.4g} M MACs: " in steps["attach points"].text


def test_a_forward_pass_is_timed_when_it_is_warm(tried, monkeypatch):
    """The first pass takes 9 s and is not counted; of the others, 1 to 5 ms, the median is."""
    now, real = [0.0], check.build_backbone
    took = iter([9.0, 0.001, 0.005, 0.003, 0.002, 0.004])

    def build(*args, **options):
        model = real(*args, **options)

        def wait(*_):
            now[0] += next(took, 0.0)

        model.register_forward_hook(wait)
        return model

    monkeypatch.setattr(check, "build_backbone", build)
    monkeypatch.setattr(check.time, "perf_counter", lambda: now[0])
    _, steps = tried()
    assert "16 images in 3 ms on the CPU" in steps["forward pass"].text


def test_a_run_folder_that_cannot_be_looked_at_is_named(monkeypatch, tmp_path):
    def refused(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.exists", refused)
    with pytest.raises(ExperimentError, match=r"run cannot be looked at \(Permission denied\): search with --run-dir"):
        disk._free_gib(tmp_path / "run")
    assert "cannot be written (Permission denied)" in doctor._place("runs", tmp_path / "run", "fix").text


def test_data_that_is_missing_ends_the_chain_but_not_the_device(tried, tmp_path):
    well, steps = tried(data__path=str(tmp_path / "gone.npz"))
    assert not well and list(steps) == ["data", "device"]
    assert "data.path" in steps["data"].text and not steps["data"].ok and steps["device"].ok


@pytest.mark.parametrize(
    ("options", "what", "message"),
    [
        ({"backbone__options": {"depht": 4}}, "backbone", "did you mean 'depth'"),
        ({"attach__modules": ["nowhere"]}, "attach points", "attach.modules: there is no single-tensor cut 'nowhere'"),
        ({"space": "no-such-space"}, "ONNX", "there is no search space 'no-such-space'"),
        ({"device": "toaster"}, "device", "there is no hardware profile 'toaster'"),
        ({"search__objectives": ["accuracy", "latency_ms"]}, "device", "set search.objectives to [accuracy, macs]"),
    ],
)
def test_what_is_wrong_says_what_to_change(tried, options, what, message):
    well, steps = tried(**options)
    assert not well and not steps[what].ok and message in steps[what].text
    assert "time" not in steps


def test_a_device_is_really_measured_on(tried, tmp_path):
    profile = tmp_path / "here.yaml"
    profile.write_text(
        "name: here\ndescription: d\nconnection: local\nprotocol: {precision_pct: 20, time_limit_s: 1}\n"
    )
    well, steps = tried(device=str(profile), search__objectives=["accuracy", "latency_ms"])
    assert well and "here is ready: measured" in steps["device"].text
    profile.write_text("name: here\ndescription: d\nconnection: local\nthreads: 250\n")
    well, steps = tried(device=str(profile), search__objectives=["accuracy", "latency_ms"])
    assert not well and "set threads to" in steps["device"].text


def test_classes_of_different_size_are_pointed_out(tried, tmp_path):
    labels = np.repeat([0, 1], [90, 10])
    images = np.random.default_rng(0).integers(0, 255, (100, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "uneven.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    _, steps = tried(data__path=str(tmp_path / "uneven.npz"), data__validation=0.2)
    (hint,) = steps["data"].hints
    assert "class 0 has 9 times the images of 1" in hint and "accuracy: balanced" in hint
    _, steps = tried(data__path=str(tmp_path / "uneven.npz"), data__validation=0.2, accuracy="balanced")
    assert steps["data"].hints == ()


def test_a_checkpoint_that_guesses_is_pointed_out(tried, toy_experiment, toy_data, tmp_path):
    from aebnas.backbones.build import build_backbone

    torch.manual_seed(0)
    settings = toy_experiment().backbone
    model = build_backbone(settings, num_classes=toy_data.num_classes, input_shape=toy_data.input_shape)
    torch.save(model.state_dict(), tmp_path / "fresh.pt")
    well, steps = tried(backbone__checkpoint=str(tmp_path / "fresh.pt"))
    assert well and "comes trained" in steps["backbone"].text
    assert "% right on 80 validation images" in steps["forward pass"].text
    assert "hardly better than guessing (25.0 %)" in steps["forward pass"].hints[0]


def test_of_two_classes_a_good_checkpoint_is_no_guess(tried, toy_experiment, tmp_path):
    """Twice as good as guessing would be more than perfect."""
    from aebnas.backbones.build import build_backbone
    from aebnas.data.load import load_data
    from aebnas.progress import Progress
    from aebnas.training.backbone import train_backbone

    random, labels = np.random.default_rng(0), np.arange(200) % 2
    images = (random.integers(0, 100, (200, 8, 8)) + 150 * labels[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "two.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    experiment = toy_experiment(data__path=str(tmp_path / "two.npz"))
    data = load_data(experiment.data, seed=experiment.seed)
    model = build_backbone(experiment.backbone, num_classes=2, input_shape=data.input_shape)
    training = experiment.backbone_training
    train_backbone(model, data, training, seed=0, device=torch.device("cpu"), progress=Progress())
    torch.save(model.state_dict(), tmp_path / "two.pt")
    _, steps = tried(data__path=str(tmp_path / "two.npz"), backbone__checkpoint=str(tmp_path / "two.pt"))
    assert "100.0 % right on 50 validation images" in steps["forward pass"].text
    assert steps["forward pass"].hints == ()


def test_features_that_do_not_fit_are_told(tried, monkeypatch):
    well, steps = tried(cache_gib=0.00001)
    assert well and "do not fit" in steps["disk"].hints[0]
    monkeypatch.setattr(disk, "_free_gib", lambda _: 0.1)
    well, steps = tried()
    assert not well and "lower cache_gib, free some space" in steps["disk"].text


def test_regimes_that_move_the_backbone_keep_no_features(tried):
    well, steps = tried(regime__name="joint")
    assert well and "no features are kept under joint" in steps["disk"].text
    assert "features" not in steps["time"].text


class Wrong(nn.Module):
    """Says something else each time."""

    def forward(self, x):
        return x + torch.rand_like(x)


def test_a_block_that_onnxruntime_answers_otherwise_is_refused(prepared):
    from aebnas.branches.spec import BranchSpec
    from aebnas.errors import BackboneError

    images = next(iter(prepared.data.validation.read(4, order=None, look=None))).images
    branch = BranchSpec(prepared.backbone.attach_points[0].name)
    assert "3 segments and a branch" in deploy.deploy_once(prepared.backbone, branch, images)
    with pytest.raises(BackboneError, match="gives something else in onnxruntime"):
        deploy._difference("segment 1", exported(Wrong()), Wrong(), images)
    with pytest.raises(BackboneError, match="onnxruntime cannot run segment 1"):
        deploy._difference("segment 1", b"no model", Wrong(), images)


def exported(module: nn.Module) -> bytes:
    from aebnas.export.blocks import block_bytes, export_block

    return block_bytes(export_block(module, (1, 8, 8)))


@pytest.mark.parametrize(("seconds", "text"), [(3, "3 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h")])
def test_times_are_spoken(seconds, text):
    assert estimate.spoken(seconds) == text


def test_an_estimate_ends_with_the_timeout(tried):
    _, steps = tried(search__timeout=1.0, search__trials=5000)
    assert "5000 trials 1 s" in steps["time"].text


def test_batches_are_timed_until_they_get_no_quicker(monkeypatch):
    """The first ones make kernels: what they take is not what a batch takes."""
    now, took = [0.0], iter([9.0, 8.0, 4.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: now[0])

    def work(_: Batch) -> None:
        now[0] += next(took)

    clock = estimate._Clock.__new__(estimate._Clock)
    clock._device = torch.device("cpu")
    batch = Batch(torch.arange(10), torch.zeros(10, 1, 8, 8), torch.zeros(10, dtype=torch.int64))
    assert clock._timed(work, iter([batch] * 20)) == pytest.approx(0.1)
    assert list(took) == [1.0]


def test_a_crowded_machine_is_told_of(tried, monkeypatch):
    """As it was before anything was tried: that keeps processors busy as well."""
    asked = []

    def said(threads):
        assert not asked
        asked.append(threads)
        return Crowd("they are busy", "wait")

    monkeypatch.setattr(check, "crowded", said)
    _, steps = tried()
    assert asked == [torch.get_num_threads()]
    assert steps["time"].hints == ("they are busy: wait",)
