"""Where the time and the memory of one model go, by onnxruntime's own profile."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aebnas.devices.target.session import random_feeds

_WARM_UP = 5
_TIMED = "_kernel_time"
_MIB = 2**20


@dataclass(frozen=True)
class Node:
    """One executed node: its time alone in microseconds, and the shapes of its inputs and outputs.

    A node inside an ``If`` is called ``NAME_OF_THE_IF/NAME``, and its time is not part of the ``If``'s.
    """

    name: str
    op: str
    us: float
    provider: str
    input_shapes: list[list[int]]
    output_shapes: list[list[int]]


@dataclass(frozen=True)
class Profile:
    """A model's nodes in the order of execution, and the most memory its arena had in use.

    The arena holds activations, scratch space and weights that onnxruntime packed for its kernels; not the other
    weights. ``peak_memory_mib`` is None where onnxruntime is too old to tell.
    """

    nodes: list[Node]
    peak_memory_mib: float | None


def profile_model(open_session: Callable[[str], Any], folder: str, *, runs: int = 20) -> Profile:
    """Profile ``runs`` runs, after a warm-up, of a model on random inputs.

    Profiling slows a model down, so the times say how its latency is shared out, not what it is. A node's time is the
    mean of the middle half of the runs: the clock of the profile has whole microseconds, and small nodes take one.

    Args:
        open_session: Opens the model with profiling on, its file's path beginning with what it is given.
        folder: Takes that file, for a moment.
        runs: Runs that count.

    Raises:
        OSError: the file cannot be written.
        Whatever opening and running the model raises.
    """
    session = open_session(str(Path(folder) / "profile"))
    try:
        feeds = random_feeds(session)
        for _ in range(_WARM_UP + runs):
            session.run(None, feeds)
    finally:
        path = Path(session.end_profiling())
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        with suppress(OSError):
            path.unlink()
    events = _events(text, path)
    executed = [_nested(run) for run in _by_run(events)[-runs:]]
    return Profile(_averaged(executed), _peak_mib(events))


def _events(text: str, path: Path) -> list[dict[str, Any]]:
    try:
        events: list[dict[str, Any]] = json.loads(text)
    except ValueError as error:
        # onnxruntime does not say when it could not write the profile, or not all of it.
        raise OSError(errno.ENOSPC, "the profile could not be written", str(path.parent)) from error
    return events


def _by_run(events: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the node events of each run; a run's own event comes after those of its nodes."""
    runs: list[list[dict[str, Any]]] = []
    nodes: list[dict[str, Any]] = []
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(_TIMED):
            nodes.append(event)
        elif event["name"] == "model_run":
            runs.append(nodes)
            nodes = []
    return runs


@dataclass(frozen=True)
class _Executed:
    """A node, by its path, in one run; its time includes that of the nodes inside it until these are known."""

    node: Node
    start_us: int


def _nested(events: Iterable[dict[str, Any]]) -> list[Node]:
    """Return one run's nodes: those that an ``If`` ran carry its name and are taken out of its time."""
    done: list[_Executed] = []
    for event in events:
        node, start_us = _node(event), int(event["ts"])
        if node.op in ("If", "Loop", "Scan"):
            # Its event comes after those of the nodes inside, which all started later than it did.
            outside = next((k for k, other in enumerate(done) if other.start_us >= start_us), len(done))
            inside, done = done[outside:], done[:outside]
            node = replace(node, us=max(0.0, node.us - sum(other.node.us for other in inside)))
            done.append(_Executed(node, start_us))
            done += [replace(other, node=_within(node.name, other.node)) for other in inside]
        else:
            done.append(_Executed(node, start_us))
    return [executed.node for executed in done]


def _within(name: str, node: Node) -> Node:
    return replace(node, name=f"{name}/{node.name}")


def _node(event: dict[str, Any]) -> Node:
    arguments = event["args"]
    return Node(
        name=event["name"][: -len(_TIMED)],
        op=arguments.get("op_name", ""),
        us=float(event["dur"]),
        provider=arguments.get("provider", ""),
        input_shapes=_shapes(arguments.get("input_type_shape", [])),
        output_shapes=_shapes(arguments.get("output_type_shape", [])),
    )


def _shapes(values: Sequence[dict[str, list[int]]]) -> list[list[int]]:
    return [shape for value in values for shape in value.values()]


def _averaged(runs: Sequence[Sequence[Node]]) -> list[Node]:
    """Return each node once, in the order of the last run; one that ran several times in a run is their sum."""
    times_us: dict[str, list[float]] = {}
    for run in runs:
        total: dict[str, float] = {}
        for node in run:
            total[node.name] = total.get(node.name, 0.0) + node.us
        for name, us in total.items():
            times_us.setdefault(name, []).append(us)
    first = {node.name: node for node in reversed(runs[-1])}
    return [replace(node, us=_middle(times_us[name])) for name, node in reversed(list(first.items()))]


def _middle(values: Sequence[float]) -> float:
    ordered = np.sort(values)
    cut = len(ordered) // 4
    return float(np.mean(ordered[cut : len(ordered) - cut]))


def _peak_mib(events: Iterable[dict[str, Any]]) -> float | None:
    peaks = [int(peak) for event in events if (peak := event.get("args", {}).get("mem_in_use_peak")) is not None]
    return max(peaks) / _MIB if peaks else None
