"""Where the time of an exported network goes on a device: its parts one by one, and the whole made to leave everywhere.

Four kinds of figures stand side by side and are never mixed: what the search predicted, sums of parts that are measured
alone, whole paths (the single file forced to one exit), and what the search measured end to end on real images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx

from aebnas.devices.device import Device, Job
from aebnas.devices.identity import identity_model
from aebnas.devices.results import Measurement, NodeProfile
from aebnas.export.forced import forced_job
from aebnas.export.graphs import split_gate, with_batch_of_one
from aebnas.export.manifest import (
    BACKBONE,
    SINGLE_FILE,
    Manifest,
    branch_file,
    read_manifest,
    read_model,
    segment_file,
)

Kind = Literal["start", "segment", "branch", "gate", "rest"]
MIB = 1 << 20
_START = "start"


@dataclass(frozen=True)
class Piece:
    """Milliseconds of one piece of a path; ``exit`` is the exit that the piece belongs to.

    ``start`` is what running any graph costs. ``segment`` and ``branch`` are layers, ``gate`` makes label and
    confidence of the logits. ``rest`` is what the whole path takes beyond its parts: comparison, ``If``, copies; it is
    negative where parts in one graph run faster than alone.
    """

    kind: Kind
    exit: int
    ms: float


@dataclass(frozen=True)
class TimedPart:
    """One staged block, measured as a graph of its own at batch 1.

    ``beyond_ms`` is its latency without the start of a graph; ``gate_ms`` the share of its gate in it, 0 without one.
    """

    kind: Literal["segment", "branch"]
    exit: int
    file: str
    size_mib: float
    measurement: Measurement
    profile: NodeProfile
    beyond_ms: float
    gate_ms: float

    @property
    def layers_ms(self) -> float:
        """What is not the gate."""
        return self.beyond_ms - self.gate_ms


@dataclass(frozen=True)
class TimedPath:
    """The single file, forced to leave at one exit; ``share`` of the validation samples do so, None if not known."""

    exit: int
    name: str
    share: float | None
    measurement: Measurement


@dataclass(frozen=True)
class TimedFile:
    """A whole file: where its time goes node by node, its size, and by how much a process grows that runs it.

    The single file is the one that is forced to its deepest exit.
    """

    file: str
    size_mib: float
    resident_mib: float
    measurement: Measurement
    profile: NodeProfile


@dataclass(frozen=True)
class Breakdown:
    """An exported network, taken apart on a device; ``costs`` is what the search found, as the manifest has it."""

    start: Measurement
    parts: tuple[TimedPart, ...]
    paths: tuple[TimedPath, ...]
    deepest: TimedFile
    backbone: TimedFile
    costs: Mapping[str, Any]

    def pieces(self, path: TimedPath) -> list[Piece]:
        """Return the pieces of ``path`` in the order of execution; they add up to what it was measured to take."""
        pieces = [Piece("start", 0, self.start.latency_ms)]
        for part in self._executed(path):
            pieces.append(Piece(part.kind, part.exit, part.layers_ms))
            if part.gate_ms:
                pieces.append(Piece("gate", part.exit, part.gate_ms))
        return [*pieces, Piece("rest", path.exit, path.measurement.latency_ms - self.parts_ms(path))]

    def parts_ms(self, path: TimedPath) -> float:
        """Return one start and what all executed parts take beyond it."""
        return self.start.latency_ms + sum(part.beyond_ms for part in self._executed(path))

    def rest_half_ms(self, path: TimedPath) -> float:
        """Return by how much the rest of ``path`` may be off, from the 95 % intervals of all that it is made of."""
        known = [self.start, path.measurement, *(part.measurement for part in self._executed(path))]
        return math.sqrt(sum(((one.high_ms - one.low_ms) / 2) ** 2 for one in known))

    def mean(self, value: Callable[[TimedPath], float]) -> float | None:
        """Return the mean of ``value`` over the exit shares; None where the manifest does not have them."""
        if any(path.share is None for path in self.paths):
            return None
        return sum((path.share or 0.0) * value(path) for path in self.paths)

    @property
    def unsteady(self) -> list[str]:
        """Names of what did not get as precise as the profile asks for."""
        named = {"start of a graph": self.start, "backbone": self.backbone.measurement}
        named |= {f"{part.kind} {part.exit}": part.measurement for part in self.parts}
        named |= {f"path to exit {path.exit}": path.measurement for path in self.paths}
        return [name for name, measurement in named.items() if not measurement.steady]

    def _executed(self, path: TimedPath) -> list[TimedPart]:
        return [part for part in self.parts if part.exit <= path.exit]


def take_apart(folder: Path, device: Device) -> Breakdown:
    """Measure what ``aebnas export`` wrote to ``folder``, part by part and as a whole, on ``device``.

    All is measured at batch 1 on random input, in the same interleaved rounds.

    The time of a gate is that of the gate alone, beyond the start of a graph. Its share among the profiled nodes would
    be several times too large: the profile has whole microseconds, and adds to small nodes most.

    Raises:
        RunError: a file of the export is missing or damaged.
        MeasurementError: the device cannot be reached, or cannot run a part.
    """
    manifest = read_manifest(folder)
    files = _part_files(manifest)
    contents = {name: read_model(folder, name, manifest) for name in (SINGLE_FILE, BACKBONE, *files)}
    blocks = {name: with_batch_of_one(onnx.load_from_string(contents[name])) for name in files}
    jobs = _jobs(manifest, contents, blocks)
    measured = device.measure(jobs)
    whole = {SINGLE_FILE: jobs[_path(manifest.num_exits - 1)].model, BACKBONE: contents[BACKBONE]}
    profiles = device.nodes({**{name: jobs[name].model for name in files}, **whole})
    resident = device.resident(whole)
    start_ms = measured[_START].latency_ms
    parts = []
    for name, (kind, exit_) in files.items():
        beyond_ms = max(0.0, measured[name].latency_ms - start_ms)
        gate_ms = measured[_gate(name)].latency_ms - start_ms if _gate(name) in measured else 0.0
        size_mib, gate_ms = len(contents[name]) / MIB, min(max(0.0, gate_ms), beyond_ms)
        parts.append(TimedPart(kind, exit_, name, size_mib, measured[name], profiles[name], beyond_ms, gate_ms))

    def file(name: str, measurement: Measurement) -> TimedFile:
        return TimedFile(name, len(contents[name]) / MIB, resident[name], measurement, profiles[name])

    paths = _paths(manifest, measured)
    return Breakdown(
        start=measured[_START],
        parts=tuple(parts),
        paths=paths,
        deepest=file(SINGLE_FILE, paths[-1].measurement),
        backbone=file(BACKBONE, measured[BACKBONE]),
        costs=_mapping(manifest.values.get("costs")),
    )


def _part_files(manifest: Manifest) -> dict[str, tuple[Literal["segment", "branch"], int]]:
    """Return the kind and the exit of every staged file, in the order of execution."""
    files: dict[str, tuple[Literal["segment", "branch"], int]] = {}
    for number in range(manifest.num_exits):
        files[segment_file(number)] = ("segment", number)
        if number < manifest.num_exits - 1:
            files[branch_file(number)] = ("branch", number)
    return files


def _jobs(manifest: Manifest, contents: Mapping[str, bytes], blocks: Mapping[str, onnx.ModelProto]) -> dict[str, Job]:
    jobs = {_START: Job(identity_model(manifest.input_shape)), BACKBONE: Job(contents[BACKBONE])}
    for name, block in blocks.items():
        jobs[name] = Job(block.SerializeToString(deterministic=True))
        gate = split_gate(block)[1]
        if gate is not None:
            jobs[_gate(name)] = Job(gate.SerializeToString(deterministic=True))
    for number in range(manifest.num_exits):
        jobs[_path(number)] = forced_job(contents[SINGLE_FILE], number, manifest.num_exits)
    return jobs


def _gate(name: str) -> str:
    return f"gate of {name}"


def _path(number: int) -> str:
    return f"{SINGLE_FILE} forced to exit {number}"


def _paths(manifest: Manifest, measured: Mapping[str, Measurement]) -> tuple[TimedPath, ...]:
    extra = _mapping(manifest.values.get("extra"))
    names, given = _exit_names(manifest, extra), extra.get("exit_shares")
    shares: list[float | None] = [None] * manifest.num_exits
    if isinstance(given, list) and len(given) == manifest.num_exits and all(type(s) in (int, float) for s in given):
        shares = list(given)
    return tuple(
        TimedPath(number, name, share, measured[_path(number)])
        for number, (name, share) in enumerate(zip(names, shares, strict=True))
    )


def _exit_names(manifest: Manifest, extra: Mapping[str, Any]) -> list[str]:
    """Return where every exit hangs, as far as the manifest says; it may end in a branch instead of the classifier."""
    branches = extra.get("branches")
    attach = [str(_mapping(branch).get("attach", "")) for branch in branches] if isinstance(branches, list) else []
    names = [*attach, *[""] * manifest.num_exits][: manifest.num_exits]
    if len(attach) < manifest.num_exits:
        names[-1] = "final"
    return names


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
