"""A torch.fx tracer that runs the model beside the recording, on two batch sizes at once.

Every recorded value is known for both sizes. A number read from a shape that is equal for both depends only on the
input shape and is folded into a constant; one that differs depends on the batch and stays in the graph, so the
batch size stays free. The values live on the proxies and die with the model's own variables, as in a forward pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from functools import reduce
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate

# Methods of a tensor whose answer depends on its shape and type, never on its content.
_METADATA = {"size", "dim", "ndimension", "numel", "nelement", "stride", "is_floating_point", "is_complex"} | {
    "is_contiguous", "element_size", "get_device", "storage_offset"
}  # fmt: skip


class Known(fx.Proxy):
    """A recorded value and what it is for each of the two batch sizes."""

    worlds: tuple[Any, ...] = ()
    from_shapes = False

    def __getattr__(self, name: str) -> Any:
        if callable(getattr(self.worlds[0], name)):
            return super().__getattr__(name)
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def __len__(self) -> int:
        first, second = (len(world) for world in self.worlds)
        if first != second:
            raise fx.proxy.TraceError("a length that depends on the batch size must be a plain number here")
        return first

    def __index__(self) -> int:
        raise fx.proxy.TraceError(f"a number that depends on {self.depends_on} must be a plain number here")

    __int__ = __index__

    def __float__(self) -> float:
        return float(self.__index__())

    @property
    def depends_on(self) -> str:
        """What differs between inputs, for people."""
        return "the batch size" if self.from_shapes else "the data"

    def __iter__(self) -> Iterator[Any]:
        indexable: Any = self
        return iter([indexable[index] for index in range(len(self))])


class Recorder(fx.Tracer):
    """Records one forward pass of the root module into a graph.

    Node metadata: ``shapes`` (the two shapes of a tensor, else None), ``from_shapes`` (a number that depends on the
    batch size alone), ``scope`` (paths of the traced modules around it, outermost first), ``ends`` (paths of the
    traced modules that return it, innermost first).

    Args:
        inputs: The model's input for the two batch sizes.
        leaves: Paths of modules to call as one operation.
    """

    proxy_buffer_attributes = True  # a buffer that forward() changes in place must be changed by the graph, too

    def __init__(self, inputs: tuple[Tensor, Tensor], leaves: Collection[str]) -> None:
        super().__init__()
        self.failed_in = ""
        self._inputs = inputs
        self._leaves = leaves
        self._scope: list[str] = []
        self._running = False

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        """Give the root its input only; further arguments of its forward keep their defaults."""
        return root_fn, [self.root, self.create_proxy("placeholder", "x", (), {})]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Say whether ``m`` is called as one operation: torch's own modules are, and those that were named."""
        return module_qualified_name in self._leaves or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Record a call of a leaf, or go into any other module and note where it begins and ends."""
        if self._running:
            return forward(*args, **kwargs)
        path = self.path_of_module(m)
        if self.is_leaf_module(m, path):
            return super().call_module(m, forward, args, kwargs)
        self._scope.append(path)
        returned = False
        try:
            result = super().call_module(m, forward, args, kwargs)
            returned = True
        finally:
            self._scope.pop()
            if not returned:
                self.failed_in = self.failed_in or path
        # A module that hands back its input ends nothing.
        if isinstance(result, Known) and path in result.node.meta["scope"]:
            result.node.meta["ends"].append(path)
        return result

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Record reads of parameters and buffers, except those of a leaf that is being run."""
        return attr_val if self._running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> Known:
        """Wrap ``node``."""
        return Known(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Refuse to decide on a value that is not the same for every input."""
        raise fx.proxy.TraceError(
            f"the path taken depends on {obj.depends_on if isinstance(obj, Known) else 'the data'}"
        )

    def create_proxy(
        self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *rest: Any, **options: Any
    ) -> Any:
        """Run one operation for both batch sizes and record it, unless it is a number fixed by the input shape."""
        if _reads_whole_shape(kind, target, args, kwargs):
            return tuple(self.create_proxy("call_method", "size", (args[0], axis), {}) for axis in range(args[0].ndim))
        worlds = tuple(self._run(kind, target, args, kwargs, world) for world in (0, 1))
        from_shapes = _is_from_shapes(kind, target, args, kwargs, worlds)
        if from_shapes and worlds[0] == worlds[1]:
            return worlds[0]
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **options)
        assert isinstance(proxy, Known)
        proxy.worlds, proxy.from_shapes = worlds, from_shapes
        is_tensor = all(isinstance(world, Tensor) for world in worlds)
        proxy.node.meta.update(
            shapes=tuple(tuple(world.shape) for world in worlds) if is_tensor else None,
            from_shapes=worlds if from_shapes else None,
            scope=tuple(self._scope),
            ends=[],
        )
        return proxy

    def _run(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], world: int) -> Any:
        def known(value: Any) -> Any:
            if isinstance(value, fx.Proxy) and not isinstance(value, Known):
                raise fx.proxy.TraceError("a bound method of a traced value is passed on")
            return value.worlds[world] if isinstance(value, Known) else value

        if kind == "placeholder":
            return self._inputs[world]
        own_args, own_kwargs = map_aggregate(args, known), map_aggregate(kwargs, known)
        with self._run_for_real():
            if kind == "get_attr":
                return reduce(getattr, target.split("."), self.root)
            if kind == "call_method":
                return getattr(own_args[0], target)(*own_args[1:], **own_kwargs)
            function = self.root.get_submodule(target) if kind == "call_module" else target
            return function(*own_args, **own_kwargs)

    @contextlib.contextmanager
    def _run_for_real(self) -> Iterator[None]:
        self._running = True
        try:
            yield
        finally:
            self._running = False


def _reads_whole_shape(kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if kind == "call_method":
        asked = target == "size" and len(args) == 1 and not kwargs
    else:
        asked = target is getattr and args[1] == "shape"
    return asked and all(isinstance(world, Tensor) for world in args[0].worlds)


def _is_from_shapes(
    kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], worlds: tuple[Any, ...]
) -> bool:
    if kind not in ("call_function", "call_method") or _holds_tensor(worlds):
        return False
    proxies: list[Known] = []
    map_aggregate((args, kwargs), lambda value: proxies.append(value) if isinstance(value, Known) else None)
    if all(proxy.from_shapes for proxy in proxies):
        return True
    on_tensor = isinstance(args[0], Known) and isinstance(args[0].worlds[0], Tensor)
    return on_tensor and (target is getattr or (kind == "call_method" and target in _METADATA))


def _holds_tensor(value: Any) -> bool:
    found: list[Tensor] = []
    map_aggregate(value, lambda leaf: found.append(leaf) if isinstance(leaf, Tensor) else None)
    return bool(found)
