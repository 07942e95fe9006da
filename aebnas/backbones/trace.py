"""From a backbone to a graph of its operations."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from aebnas.backbones.check import MODEL_ERRORS, example_input
from aebnas.backbones.modes import first_clash, merge_modes
from aebnas.backbones.recorder import Recorder
from aebnas.errors import TraceError
from aebnas.registry import unknown_name

_NO_USER_CODE = tuple(str(Path(file).parent) for file in (torch.__file__, __file__))
_KEEP_WHOLE = "name it under backbone.leaves to keep it in one piece"


def trace(model: nn.Module, input_shape: tuple[int, ...], leaves: Sequence[str] = ()) -> fx.GraphModule:
    """Record the operations of ``model`` as a graph that shares its modules, parameters and buffers.

    Numbers read from shapes are folded for ``input_shape`` (without the batch), the batch size stays free. The graph
    follows train and eval mode as the model does. The model itself is neither run nor changed.

    Args:
        model: Any module that takes one tensor (N, *input_shape).
        input_shape: Shape of one sample.
        leaves: Paths of modules that are called as one operation instead of being traced into.

    Raises:
        TraceError: the path through the model depends on data or batch size, or an operation cannot be recorded;
            the message names the line.
    """
    paths = {path for path, _ in model.named_modules()} - {""}
    for leaf in leaves:
        if leaf not in paths:
            raise TraceError(f"backbone.leaves: {unknown_name('module', leaf, sorted(paths))}")
    device = example_input(model, input_shape, 1).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        evaluation, training, root = _both_modes(model, input_shape, set(leaves))
    modules = merge_modes(evaluation, training, model.training)
    _read_batch_size_locally(evaluation)
    return fx.GraphModule(_shared_root(model, root, modules), evaluation, "Backbone")


def _both_modes(
    model: nn.Module, input_shape: tuple[int, ...], leaves: set[str]
) -> tuple[fx.Graph, fx.Graph, nn.Module]:
    eval_model, train_model = copy.deepcopy(model).eval(), copy.deepcopy(model).train()
    one, two, three = (example_input(model, input_shape, batch) for batch in (1, 2, 3))
    while True:
        try:
            evaluation = _record(eval_model, (one, two), leaves)
            training = _record(train_model, (two, three), leaves)  # batch-norm cannot train on a single value
        except _NotRecorded as failure:
            if not failure.path or not failure.keepable or _is_most_of(model, alike := _alike(model, failure.path)):
                raise failure.sentence from failure.__cause__
            # What does the same for every input can be kept in one piece, whatever it is written in.
            leaves = leaves | alike
            continue
        clash = first_clash(evaluation, training)
        if clash is None:
            return evaluation, training, eval_model
        # Where the two modes run different operations, as in stochastic depth, the module decides for itself.
        scope = max((node.meta.get("scope", ()) for node in clash), key=len)
        if not scope:
            raise TraceError(
                f"{type(model).__name__} takes another path in train mode than in eval mode (at {clash[1].name}): "
                "let it do the same in both, for example by switching off auxiliary outputs"
            )
        leaves = leaves | _alike(model, scope[-1])


def _record(model: nn.Module, inputs: tuple[Tensor, Tensor], leaves: Collection[str]) -> fx.Graph:
    recorder = Recorder((inputs[0].clone(), inputs[1].clone()), leaves)
    try:
        return recorder.trace(model)
    except MODEL_ERRORS as error:
        raise _NotRecorded(model, recorder.failed_in, error) from error


class _NotRecorded(Exception):
    """An operation that cannot be recorded.

    Attributes:
        path: The innermost module that it is in; empty: in none.
        keepable: It does not decide anything by the data.
        sentence: What is to be said of it.
    """

    def __init__(self, model: nn.Module, path: str, error: BaseException) -> None:
        super().__init__()
        self.path = path
        self.keepable = isinstance(error, Exception) and not isinstance(error, fx.proxy.TraceError)
        self.sentence = _untraceable(model, path, error)


def _untraceable(model: nn.Module, path: str, error: BaseException) -> TraceError:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*_NO_USER_CODE, "<"))
    ]
    where = f" at {frames[-1].filename}:{frames[-1].lineno} ({frames[-1].line})" if frames else ""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    fix = f"it is in module {path!r}: {_KEEP_WHOLE}" if path else f"move the line into a submodule and {_KEEP_WHOLE}"
    return TraceError(f"cannot trace {type(model).__name__}{where}: {reason}; {fix}, or write it without that")


def _alike(model: nn.Module, path: str) -> set[str]:
    kind = type(model.get_submodule(path))
    if kind.__module__.startswith("torch."):
        return {path}
    return {name for name, module in model.named_modules() if type(module) is kind and name}


def _is_most_of(model: nn.Module, paths: Collection[str]) -> bool:
    """Tell whether modules hold most of the model, so that keeping them whole would leave no place inside it."""
    kept = {id(weight) for path in paths for weight in model.get_submodule(path).parameters()}
    sizes = {id(weight): weight.numel() for weight in model.parameters()}
    return 2 * sum(size for weight, size in sizes.items() if weight in kept) > sum(sizes.values())


def _read_batch_size_locally(graph: fx.Graph) -> None:
    """Let each user of a batch size read it from a tensor it uses anyway, so that no number is carried along."""
    for node in list(graph.nodes):
        if node.op != "call_method" or node.target != "size":
            continue
        for user in list(node.users):
            near = next((value for value in user.all_input_nodes if _has_rows(value, node)), None)
            if near is not None and near is not node.args[0]:
                with graph.inserting_before(user):
                    local = graph.call_method("size", (near, 0))
                local.meta = dict(node.meta)
                user.replace_input_with(node, local)
        if not node.users:
            graph.erase_node(node)


def _has_rows(value: fx.Node, size: fx.Node) -> bool:
    shapes = value.meta.get("shapes")
    return shapes is not None and tuple(shape[:1] for shape in shapes) == tuple((n,) for n in size.meta["from_shapes"])


def _shared_root(model: nn.Module, traced: nn.Module, modules: Mapping[str, nn.Module]) -> nn.Module:
    """Return a module with the model's own children, parameters and buffers, and what tracing added beside them."""
    root = nn.Module()
    root.training = model.training
    for name, child in model._modules.items():
        root.add_module(name, child)
    for name, parameter in model._parameters.items():
        root.register_parameter(name, parameter)
    for name, buffer in model._buffers.items():
        root.register_buffer(name, buffer)
    for name, value in vars(traced).items():
        if isinstance(value, Tensor):  # constants made in forward(), and tensors kept as plain attributes
            root.register_buffer(name, vars(model).get(name, value))
    for name, module in modules.items():
        root.add_module(name, module)
    return root
