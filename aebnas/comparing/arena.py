"""Where a comparison takes place: the same data, attach points and branches for all, a fresh backbone per seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from aebnas.backbones.build import build_backbone, comes_trained
from aebnas.backbones.cut import AttachPoint, SegmentedBackbone, cut_backbone
from aebnas.backbones.points import nearest_to_even
from aebnas.branches.build import fits
from aebnas.branches.spec import BranchSpec
from aebnas.data.splits import DataBundle, ImageSplit
from aebnas.errors import ExperimentError
from aebnas.experiment import CUSTOM, Experiment
from aebnas.prepare import data_of
from aebnas.registry import unknown_name
from aebnas.spaces.definition import NONE, SpaceDefinition, load_space
from aebnas.training.candidates import limited, seed_everything


def load_splits(experiment: Experiment, fingerprint: str | None = None) -> DataBundle:
    """Return the data: split by the experiment's own seed and cut to ``regime.train_samples``, for all seeds alike.

    Args:
        fingerprint: Of the version that is taken, where earlier ones had the data otherwise; None: this one.

    Raises:
        ExperimentError: the data came from Python. DataError: a file is missing or damaged.
    """
    if CUSTOM in (experiment.data.name, experiment.backbone.name):
        raise ExperimentError("a comparison builds model and data anew in every process: name them in the file")
    data = data_of(experiment)
    if fingerprint is not None:
        data = data.version(fingerprint)
    train, _ = limited(data.train, None, experiment.regime.train_samples, experiment.seed)
    assert isinstance(train, ImageSplit)
    return dataclasses.replace(data, train=train, before=None)


def fresh_backbone(
    experiment: Experiment, data: DataBundle, seed: int, points: Sequence[str] | None = None
) -> SegmentedBackbone:
    """Return the backbone as ``seed`` initialises it, cut at ``points``, or where the experiment says.

    Raises:
        ExperimentError: it would come trained. BackboneError: it cannot be built or cut.
    """
    if comes_trained(experiment.backbone, data.num_classes):
        key = "checkpoint" if experiment.backbone.weights is None else "weights"
        raise ExperimentError(
            f"backbone.{key}: a comparison trains the backbone from its initialisation for every seed: leave it out"
        )
    seed_everything(seed)
    model = build_backbone(experiment.backbone, num_classes=data.num_classes, input_shape=data.input_shape)
    return cut_backbone(
        model,
        data.input_shape,
        max_points=experiment.attach.points,
        modules=experiment.attach.modules if points is None else points,
        leaves=experiment.backbone.leaves,
    )


def choose_branches(experiment: Experiment, backbone: SegmentedBackbone) -> tuple[BranchSpec, ...]:
    """Return the branches of ``compare.branches``, or ``compare.exits`` like ones spread evenly over the MACs.

    Raises:
        ExperimentError: an attach point or a choice is unknown, or there are too few attach points.
        BranchError: a branch does not fit.
    """
    settings, points = experiment.compare, backbone.attach_points
    if settings.branches is not None:
        specs = [BranchSpec.from_json(branch) for branch in settings.branches]
        return _in_order(specs, [point.name for point in points])
    space, classes = load_space(experiment.space), backbone.num_classes
    usable = [point for point in points if _bare_branch(space, point, classes) is not None]
    if len(usable) < settings.exits:
        raise ExperimentError(
            f"compare.exits is {settings.exits}, but branches fit at {len(usable)} attach points: raise attach.points "
            "or lower compare.exits"
        )
    chosen = nearest_to_even([point.macs / backbone.macs for point in usable], settings.exits)
    specs = []
    for point in (usable[index] for index in chosen):
        kept = bare = _bare_branch(space, point, classes)
        assert kept is not None and bare is not None
        for layers in _layers(space, settings.branch):
            for name in layers:
                # As the search does: a layer that does not fit what is left of the map counts as none.
                longer = dataclasses.replace(kept, layers=kept.layers + space.layer_choices()[name])
                kept = longer if fits(longer, point.shape, classes) else kept
            if kept != bare:
                break  # the first of the starts that is for tensors like this one
        specs.append(kept)
    return tuple(specs)


def _in_order(specs: Sequence[BranchSpec], names: Sequence[str]) -> tuple[BranchSpec, ...]:
    for number, spec in enumerate(specs):
        if spec.attach not in names:
            where = f"compare.branches.{number}.attach"
            raise ExperimentError(f"{where}: {unknown_name('attach point', spec.attach, names)}")
    if len({spec.attach for spec in specs}) < len(specs):
        raise ExperimentError("compare.branches: two branches hang at the same attach point: give each its own")
    return tuple(sorted(specs, key=lambda spec: names.index(spec.attach)))


def _layers(space: SpaceDefinition, chosen: Sequence[str] | None) -> Sequence[Sequence[str]]:
    if chosen is None:
        return space.starts
    for name in chosen:
        if name not in (NONE, *space.layers):
            raise ExperimentError(f"compare.branch: {unknown_name('choice', name, [NONE, *space.layers])}")
    return [chosen]


def _bare_branch(space: SpaceDefinition, point: AttachPoint, classes: int) -> BranchSpec | None:
    """Return the branch of the first head of ``space`` that fits ``point``; None where none does."""
    bare = (BranchSpec(point.name, (), head) for head in space.head_choices().values())
    return next((branch for branch in bare if fits(branch, point.shape, classes)), None)
