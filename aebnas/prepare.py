"""What every verb that needs the network itself begins with: the data and the trained, cut backbone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aebnas.backbones.build import (
    build_backbone,
    comes_trained,
    has_new_classifier,
    state_fingerprint,
    wanted_input,
)
from aebnas.backbones.cut import SegmentedBackbone, cut_backbone
from aebnas.data.load import load_data
from aebnas.data.splits import DataBundle
from aebnas.errors import BackboneError, RunError, TrainingError
from aebnas.exits.by_class import left_out
from aebnas.experiment import CUSTOM, Experiment
from aebnas.files import canonical_json, digest
from aebnas.progress import Progress
from aebnas.run_folder import RunFolder
from aebnas.store import WeightStore, load_state, state_of
from aebnas.training.backbone import train_backbone
from aebnas.training.candidates import seed_everything
from aebnas.training.log import FINAL_EXIT, Subject, open_log


@dataclass(frozen=True)
class Prepared:
    """Data and backbone of a run.

    Args:
        experiment: What they were prepared for.
        backbone: Trained, cut at its attach points, in evaluation mode, on the CPU.
        fingerprint: Changes with the data, their split, or any weight of the backbone.
        initial: The backbone's weights before it was trained; None where it came trained.
    """

    experiment: Experiment
    data: DataBundle
    backbone: SegmentedBackbone
    fingerprint: str
    initial: Mapping[str, Tensor] | None


def prepare(
    experiment: Experiment, folder: RunFolder, *, device: torch.device, progress: Progress, as_kept: bool = False
) -> Prepared:
    """Load the data, build the backbone, train it if it has no weights, and cut it.

    The trained backbone is kept in the run folder and found there again.

    Args:
        as_kept: Take the weights in the run folder, wherever they come from: another process made or checked them.

    Raises:
        InputError: data or backbone are missing or wrong; the message says which key and what to do.
        TrainingError: the backbone's training failed.
    """
    data = data_of(experiment, progress)
    # A file of weights may be on another machine, and what was downloaded as well.
    model = _model(experiment, data, load=not as_kept)
    cut = cut_backbone(
        model,
        data.input_shape,
        max_points=experiment.attach.points,
        modules=experiment.attach.modules,
        leaves=experiment.backbone.leaves,
    )
    if as_kept:
        initial = _take_kept(model, folder)
    else:
        initial, data = _give_weights(model, folder, experiment, data, device, progress)
    cut.eval().requires_grad_(False)
    return Prepared(experiment, data, cut, digest(data.fingerprint, state_fingerprint(model)), initial)


def data_of(experiment: Experiment, progress: Progress | None = None) -> DataBundle:
    """Load the data of ``experiment``, prepared as its backbone wants them; ``progress`` shows a first look at many.

    Raises:
        DataError: they are missing or wrong. RunError: they came from Python and are not at hand.
    """
    if experiment.datasets is not None:
        return experiment.datasets
    if experiment.data.name == CUSTOM:
        raise RunError("this run's data came from Python: use aebnas.Run in Python with the same datasets")
    wanted = wanted_input(experiment.backbone)
    return load_data(experiment.data, seed=experiment.seed, wanted=wanted, progress=progress)


def say_left_out(experiment: Experiment, data: DataBundle, progress: Progress) -> None:
    """Say which classes balanced accuracy leaves out of a split, where that is what ``experiment`` goes by."""
    if experiment.accuracy == "balanced":
        splits = {"validation": data.validation.labels.numpy(), "test": data.test.labels.numpy()}
        note = left_out(splits, data.classes)
        if note is not None:
            progress.say(f"note: {note}")


def _model(experiment: Experiment, data: DataBundle, load: bool) -> nn.Module:
    if experiment.model is not None:
        # A search freezes and moves its backbone; the user's own object stays as it is.
        return copy.deepcopy(experiment.model)
    if experiment.backbone.name == CUSTOM:
        raise RunError("this run's model came from Python: use aebnas.Run in Python with the same model")
    seed_everything(experiment.seed)
    return build_backbone(experiment.backbone, num_classes=data.num_classes, input_shape=data.input_shape, load=load)


def _take_kept(model: nn.Module, folder: RunFolder) -> Mapping[str, Tensor] | None:
    record = WeightStore(folder.path).get("backbone")
    load_state(model, record["state"], folder.backbone_file)
    initial: Mapping[str, Tensor] | None = record.get("initial")
    return initial


def _give_weights(
    model: nn.Module,
    folder: RunFolder,
    experiment: Experiment,
    data: DataBundle,
    device: torch.device,
    progress: Progress,
) -> tuple[Mapping[str, Tensor] | None, DataBundle]:
    """Load or train the weights of ``model``; return those it had before it was trained here, and the run's own data.

    A run of an earlier version goes on with the data as that version had them.
    """
    training, backbone = experiment.backbone_training, experiment.backbone
    if training is None and has_new_classifier(backbone, data.num_classes):
        raise BackboneError(
            f"backbone_training is null, and the weights of {backbone.name} are for other than the {data.num_classes} "
            "classes of the data set, so that its classifier is new: give backbone_training to train it"
        )
    needs_training = training is not None and not comes_trained(backbone, data.num_classes)
    pretrained = backbone.weights is not None or backbone.checkpoint is not None
    settings = canonical_json(
        [
            backbone.model_dump(mode="json", exclude={"checkpoint"}, exclude_none=True),
            None if training is None else training.about(),
            experiment.seed,
            *([] if experiment.accuracy == "plain" else [experiment.accuracy]),
        ]
    )
    start = "" if needs_training and not pretrained else state_fingerprint(model)
    store = WeightStore(folder.path)
    if store.has("backbone"):
        record = store.get("backbone")
        for known in data.versions():
            if record.get("key") == digest(known.fingerprint, settings, start):
                load_state(model, record["state"], folder.backbone_file)
                return record.get("initial"), known
        raise RunError(
            f"{folder.backbone_file} belongs to other data or another model: choose another --run-dir, "
            "or delete the run"
        )
    initial = None
    if training is not None and needs_training:
        initial = state_of(model)
        log = open_log(experiment.training_log, folder.path)
        try:
            with log.training(Subject("backbone", "backbone", "", (FINAL_EXIT,), ("",))) as tell:
                result = train_backbone(
                    model,
                    data,
                    training,
                    seed=experiment.seed,
                    device=device,
                    progress=progress,
                    mixed=experiment.mixed_precision,
                    told=tell,
                    accuracy=experiment.accuracy,
                )
        except TrainingError as error:
            raise TrainingError(f"backbone_training failed: {error}") from error
        kind = "" if experiment.accuracy == "plain" else "balanced accuracy "
        progress.say(f"backbone trained: {100 * result.best[0]:.2f} % {kind}on validation")
    key = digest(data.fingerprint, settings, start)
    store.put("backbone", {"key": key, "state": state_of(model), "initial": initial})
    return initial, data
