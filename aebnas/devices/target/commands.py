"""What an agent does for each command, once onnxruntime is there."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from aebnas.devices.target.energy import Sensor, find_sensor
from aebnas.devices.target.errors import BLOCK, PROVIDER, REQUEST, Refused, in_one_line
from aebnas.devices.target.frames import Answers, Header
from aebnas.devices.target.memory import resident_mib
from aebnas.devices.target.network import time_networks
from aebnas.devices.target.nodes import profile_model
from aebnas.devices.target.session import RUNTIME_ERRORS, ProviderRefused, random_feeds, require_provider
from aebnas.devices.target.settings import Pinned, Settings, settings_of
from aebnas.devices.target.timing import BlockFailed, Timing, groups, time_blocks

INPUTS = "inputs.npy"
# What onnxruntime and numpy raise over a model that is damaged, too big, or not what they know.
_FAILURES: tuple[type[Exception], ...] = (*RUNTIME_ERRORS, MemoryError, ValueError, TypeError)
_BLOCK_FAILURES: tuple[type[Exception], ...] = (*_FAILURES, BlockFailed)
_NODE_PRECISION_PCT, _NODE_LIMIT_S, _MEMORY_RUNS = 2.0, 2.0, 2
_ENERGY_S = 0.2
_Result = TypeVar("_Result")
_Call = TypeVar("_Call")


@dataclass
class Work:
    """One request: what it says, its files, where to put others, where to answer."""

    header: Header
    files: Mapping[str, Path]
    folder: Path
    answers: Answers
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        self.settings = settings_of(self.header)

    def open(self, name: str, profile_prefix: str | None = None) -> Any:
        """Open the model ``name``, and leave word on the standard error, should onnxruntime crash over it."""
        print(f"opening {name!r}", file=sys.stderr, flush=True)
        return self.settings.open(str(self.files[name]), profile_prefix)

    def ready(self, name: str) -> Callable[[], object]:
        """Open the model ``name`` and run it once on random inputs; return what runs it again."""
        session = self.open(name)
        feeds, outputs = random_feeds(session), [output.name for output in session.get_outputs()]
        session.run(outputs, feeds)
        return partial(session.run, outputs, feeds)

    def refusal(self, name: str, error: BaseException) -> Refused:
        """Say for the model ``name`` what went wrong."""
        cause = error.__cause__ if isinstance(error, BlockFailed) and error.__cause__ else error
        said = in_one_line(cause).replace(str(self.files.get(name)), "the file")
        if isinstance(cause, ProviderRefused):
            return Refused(PROVIDER, f"{name!r}: {said}", name)
        return Refused(BLOCK, f"onnxruntime cannot load or run {name!r}: {said}", name)

    def attempt(self, name: str, task: Callable[[str], _Result]) -> _Result | None:
        """Return what ``task`` makes of the model ``name``; None after an answer that it could not be done."""
        try:
            return task(name)
        except _BLOCK_FAILURES as error:
            self.answers.refused(self.refusal(name, error))
        except Refused as error:
            self.answers.refused(Refused(error.kind, f"{name!r}: {error}", name))
        return None

    def attempt_each(self, names: Iterable[str], task: Callable[[str], _Result]) -> dict[str, _Result]:
        """Return what ``task`` makes of each model, without those that it could not be done with."""
        results = {name: self.attempt(name, task) for name in names}
        return {name: result for name, result in results.items() if result is not None}

    def together(
        self, calls: dict[str, _Call], task: Callable[[dict[str, _Call]], dict[str, _Result]]
    ) -> dict[str, _Result]:
        """Return what ``task`` makes of all ``calls``; one that fails is answered for, and the others start again."""
        if not calls:
            return {}
        try:
            return task(calls)
        except BlockFailed as failed:
            refusal = self.refusal(failed.name, failed)
            if calls.pop(failed.name, None) is None:  # the yardstick, without which nothing can be told
                raise Refused(refusal.kind, str(refusal)) from failed
            self.answers.refused(refusal)
        return self.together(calls, task)


def serve(command: str, work: Work, pinned: Pinned) -> None:
    """Do what ``command`` says and answer with its events; a model that fails does not keep the others from theirs.

    Raises:
        Refused: nothing of the request can be done.
        OSError: a file cannot be written.
    """
    try:
        require_provider(work.settings.provider)
    except ProviderRefused as error:
        raise Refused(PROVIDER, in_one_line(error)) from error
    pinned.settle(work.settings)
    COMMANDS[command](work)


def _measure(work: Work) -> None:
    protocol = Header(work.header.get("protocol", dict, {}), {})
    precision_pct, limit_s = protocol.get("precision_pct", float, 1.5), protocol.get("time_limit_s", float, 60.0)
    yardstick_name = work.header.get("yardstick", str)
    if yardstick_name not in work.files:
        raise Refused(REQUEST, f"yardstick is {yardstick_name!r}: it has to be one of the files")
    try:
        yardstick = work.ready(yardstick_name)
    except _FAILURES as error:
        refusal = work.refusal(yardstick_name, error)
        raise Refused(refusal.kind, str(refusal)) from error
    split = groups([name for name in work.files if name != yardstick_name])
    for number, group in enumerate(split):
        # What a group leaves of its share is for those after it.
        share_s = max(limit_s, 0.0) * len(group) / sum(map(len, split[number:]))
        limit_s -= _measure_group(work, group, yardstick, precision_pct, share_s)


def _measure_group(
    work: Work, group: Iterable[str], yardstick: Callable[[], object], precision_pct: float, time_limit_s: float
) -> float:
    """Measure and answer for one group; return the seconds that timing took."""
    calls = work.attempt_each(group, work.ready)
    start = time.perf_counter()
    timings = work.together(
        calls, partial(time_blocks, yardstick=yardstick, precision_pct=precision_pct, time_limit_s=time_limit_s)
    )
    taken_s = time.perf_counter() - start
    sensor = find_sensor()
    for name, timing in timings.items():
        work.attempt(name, partial(_answer_measured, work, calls[name], timing, sensor))
    return taken_s


def _answer_measured(work: Work, call: Callable[[], object], timing: Timing, sensor: Sensor | None, name: str) -> None:
    profile = profile_model(partial(work.open, name), str(work.folder), runs=_MEMORY_RUNS)
    energy_mj = sensor.energy_of(call, _ENERGY_S) if sensor else None
    work.answers.event(
        "measured",
        name=name,
        **asdict(timing),
        peak_memory_mib=profile.peak_memory_mib,
        energy_mj=energy_mj,
        energy_source=sensor.name if sensor and energy_mj is not None else None,
    )


def _nodes(work: Work) -> None:
    for name in work.files:
        work.attempt(name, partial(_answer_nodes, work))


def _answer_nodes(work: Work, name: str) -> None:
    call = work.ready(name)
    timing = time_blocks({name: call}, yardstick=call, precision_pct=_NODE_PRECISION_PCT, time_limit_s=_NODE_LIMIT_S)[
        name
    ]
    profile = profile_model(partial(work.open, name), str(work.folder))
    work.answers.event("nodes", name=name, wall_us=timing.latency_ms * 1e3, **asdict(profile))


def _resident(work: Work) -> None:
    for name in work.files:
        work.attempt(name, partial(_answer_resident, work))


def _answer_resident(work: Work, name: str) -> None:
    settings = work.settings
    grown_mib = resident_mib(
        str(work.files[name]),
        threads=settings.threads,
        provider=settings.provider,
        provider_options=settings.provider_options,
    )
    work.answers.event("resident", name=name, resident_mib=grown_mib)


def _run(work: Work) -> None:
    inputs = _inputs(work)
    repeats, burst = work.header.get("repeats", int, 3), work.header.get("burst", int, 16)
    if min(repeats, burst) < 1:
        raise Refused(REQUEST, f"repeats is {repeats} and burst is {burst}: both have to be at least 1")
    wanted = work.header.get("outputs", dict, {})
    networks = work.attempt_each(
        [name for name in work.files if name != INPUTS], lambda name: _network(work, wanted.get(name, []), name)
    )
    results = work.together(networks, lambda runs: time_networks(runs, inputs, repeats=repeats, burst=burst))
    for name, result in results.items():
        outputs = {
            output: np.concatenate([np.atleast_1d(values[number]) for values in result.outputs]).tolist()
            for number, output in enumerate(wanted.get(name, []))
        }
        work.answers.event("ran", name=name, latency_ms=result.latency_ms.tolist(), outputs=outputs)


def _inputs(work: Work) -> np.ndarray:
    try:
        inputs: np.ndarray = np.load(work.files[INPUTS], allow_pickle=False)
    except KeyError as error:
        raise Refused(REQUEST, f"there is no file {INPUTS}") from error
    except (ValueError, EOFError) as error:
        raise Refused(REQUEST, f"{INPUTS} is damaged: {in_one_line(error)}") from error
    if inputs.dtype not in (np.float32, np.uint8) or not inputs.ndim or not len(inputs):
        raise Refused(REQUEST, f"{INPUTS} is {inputs.dtype} {inputs.shape}: it has to be float32 or uint8 (N, ...)")
    return inputs


def _network(work: Work, wanted: Sequence[str], name: str) -> Callable[[np.ndarray], Sequence[Any] | None]:
    """Open a network; return what runs it on one input and returns the ``wanted`` outputs."""
    session = work.open(name)
    offered = [output.name for output in session.get_outputs()]
    if not set(wanted) <= set(offered):
        raise Refused(REQUEST, f"there are no outputs {wanted!r}, choose from {', '.join(offered)}")
    source = session.get_inputs()[0].name
    outputs = list(wanted) or offered
    # The yardstick has an input of its own: it only tells how fast the machine is while the others run.
    fixed = random_feeds(session) if name == work.header.get("yardstick", str, "") else None

    def run(sample: np.ndarray) -> Sequence[Any] | None:
        try:
            values: Sequence[Any] = session.run(outputs, fixed or {source: sample})
        except _FAILURES as error:
            raise BlockFailed(name) from error
        return values if wanted else None

    return run


COMMANDS: dict[str, Callable[[Work], None]] = {
    "measure": _measure,
    "nodes": _nodes,
    "resident": _resident,
    "run": _run,
}
