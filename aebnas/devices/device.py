"""A device that blocks are measured on: this machine, or one that ssh reaches."""

from __future__ import annotations

import contextlib
import io
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import TracebackType

import numpy as np

from aebnas.devices.canonical import canonical_graph
from aebnas.devices.check import findings
from aebnas.devices.client import Client
from aebnas.devices.link import Event
from aebnas.devices.problems import missing_provider, missing_runtime
from aebnas.devices.profile import HardwareProfile, Protocol
from aebnas.devices.results import Facts, Finding, Measurement, NodeProfile, RunResult, node_profile, run_result
from aebnas.devices.store import LatencyStore, Memory, user_folder
from aebnas.devices.turn import turn
from aebnas.devices.yardstick import yardstick_model
from aebnas.errors import AebnasError, ProfileError
from aebnas.files import digest

# Goes up when what is measured, and so what is remembered, means something else.
_MEANING = "1"
# Files that travel beside the models; the first must be no model's name, the second is the agent's word.
_YARDSTICK, _INPUTS = "aebnas:yardstick", "inputs.npy"
_TRIAL = Protocol(precision_pct=2.0, time_limit_s=2.0)
# The quantile that blocks are measured by, and the yardstick among them.
_LOW = 0.2
# Inputs over which the machine counts as equally fast.
_STRETCH = 48
# A run that takes longer counts as stuck; so many are made to see where the time of one model goes.
_RUN_S, _NODE_RUNS = 1.0, 100


@dataclass(frozen=True)
class Job:
    """One block to be measured: a serialised ONNX model, run at batch 1 on random input.

    ``variant`` tells apart graphs that are equal but for weights which decide what is executed, such as the thresholds
    of an early-exit graph.
    """

    model: bytes
    variant: str = ""


def _not_told(_: int) -> None:
    pass


def _silent(_: str) -> None:
    pass


class Device:
    """Measures on the device that ``profile`` describes, in a process of its own there, and remembers it in ``stores``.

    The process is started when it is first needed and serves until ``close``; one that died is started again.

    Every method raises MeasurementError when the device cannot be reached, lacks the runtime or does not answer, and
    ProfileError when it does not have what the profile asks for.

    Example:
        >>> with Device(load_profile("local")) as device:  # doctest: +SKIP
        ...     device.measure({"block": Job(model)})["block"].latency_ms

    Args:
        profile: Which device, and how onnxruntime runs there.
        stores: Looked up in order, written to all; what is not steady, to the first alone.
        say: Is told what takes time, such as waiting for another process that measures.
        hush: Entered while this machine measures: lets what else computes here pause.
        patience_s: Seconds that the device may be silent for no good reason.

    Raises:
        ProfileError: the device cannot be measured from here.
    """

    def __init__(
        self,
        profile: HardwareProfile,
        stores: Sequence[LatencyStore] = (),
        say: Callable[[str], None] = _silent,
        *,
        hush: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
        patience_s: float = 60.0,
    ) -> None:
        if not profile.measurable:
            raise ProfileError(
                f"hardware profile {profile.name!r} has connection: none, so its latency cannot be measured from here: "
                "choose objectives in MACs, set connection to {ssh: user@host}, or use --device local"
            )
        self.profile = profile
        self._memory, self._say = Memory(stores), say
        self._hush = hush if profile.place == "local" else contextlib.nullcontext
        self._client = Client(profile, patience_s)
        self._facts: Facts | None = None
        self._yardsticks: list[tuple[float, float]] = []
        self.use_yardstick(yardstick_model())

    def __enter__(self) -> Device:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process on the device; the next request starts another."""
        self._client.close()

    def use_yardstick(self, model: bytes) -> None:
        """Take ``model``, a static network of the kind that is measured, to tell how fast the machine is by.

        The nearer it is to what is measured, the better: what slows a machine down slows some operators more. Blocks
        are remembered for one yardstick.
        """
        # Its graph is part of every block's key: taken apart once, not block by block.
        self._yardstick, self._yardstick_graph = model, canonical_graph(model)
        self._yardsticks = []

    @property
    def noise_pct(self) -> float | None:
        """By how much the machine varied while it was measured, from what the yardstick took; None before."""
        if not self._yardsticks:
            return None
        times_ms = [time_ms for time_ms, _ in self._yardsticks]
        between_pct = (max(times_ms) / min(times_ms) - 1) * 100
        return max(statistics.median(within_pct for _, within_pct in self._yardsticks), between_pct)

    def facts(self) -> Facts:
        """Return what the device says about itself."""
        if self._facts is None:
            answers: list[Event] = []
            self._client.ask("info", {}, answers.append)
            known = {field.name: answers[0][field.name] for field in fields(Facts)}
            self._facts = Facts(**{**known, "providers": tuple(known["providers"])})
        return self._facts

    def require(self) -> None:
        """Raise if the device lacks what measuring needs: the runtime, or the profile's provider."""
        facts = self.facts()
        if facts.numpy is None or facts.onnxruntime is None:
            raise missing_runtime(facts, self.profile)
        if self.profile.provider not in facts.providers:
            raise missing_provider(facts, self.profile)

    def check(self) -> list[Finding]:
        """Look at everything that measuring needs, and measure something that is not remembered."""
        return findings(self.profile, self.facts(), self._trial)

    def measure(self, jobs: Mapping[str, Job], arrived: Callable[[int], object] = _not_told) -> dict[str, Measurement]:
        """Return what every block takes, measuring those that are not known yet, interleaved.

        Times are told at the speed that the machine had when it was first measured, so that what was measured on a
        slow and on a fast day fits together.

        Args:
            jobs: By name.
            arrived: Is told, as they come to be known, of how many more blocks the figures are there.

        Raises:
            MeasurementError: a block cannot be run; the first is named, after all others were measured and remembered.
        """
        self.require()
        keys = {name: self._key(job) for name, job in jobs.items()}
        unknown = self._unknown(keys)
        arrived(len(jobs) - len(unknown))
        if unknown:
            with self._turn():
                # Again: the process that was waited for may have measured the same.
                still = self._unknown(keys)
                arrived(len(unknown) - len(still))
                self._measure({name: jobs[name].model for name in still}, keys, arrived)
        return self._told({name: self._memory[key] for name, key in keys.items()})

    def nodes(self, models: Mapping[str, bytes]) -> dict[str, NodeProfile]:
        """Return where the time of every serialised ONNX model goes, node by node."""
        answers = self._each("nodes", models, seconds=_NODE_RUNS * _RUN_S)
        return {name: node_profile(event) for name, event in answers.items()}

    def resident(self, models: Mapping[str, bytes]) -> dict[str, float]:
        """Return by how many MiB a process grows that loads and runs each model."""
        return {name: float(event["resident_mib"]) for name, event in self._each("resident", models).items()}

    def run(
        self,
        models: Mapping[str, bytes],
        inputs: np.ndarray,
        *,
        outputs: Mapping[str, Sequence[str]] | None = None,
        repeats: int = 3,
        burst: int = 16,
        scaled: bool = False,
    ) -> dict[str, RunResult]:
        """Run every model on every input, one at a time, the models in turns of ``burst`` inputs.

        Args:
            models: Serialised ONNX models.
            inputs: float32 (N, ...), or uint8 for models that take pixels.
            outputs: The names of the outputs to bring back, by model; by default none.
            repeats: Times that each input is run; the median counts.
            burst: Inputs in a row.
            scaled: Tell times at the speed that :meth:`measure` tells them at, by what the yardstick takes meanwhile;
                else as they were.
        """
        content = io.BytesIO()
        np.save(content, np.ascontiguousarray(inputs, dtype=np.uint8 if inputs.dtype == np.uint8 else np.float32))
        wanted = {name: list(names) for name, names in (outputs or {}).items()}
        header = {"repeats": repeats, "burst": burst, "outputs": wanted, "yardstick": _YARDSTICK}
        beside = {_YARDSTICK: self._yardstick} if scaled else {}
        seconds = len(models) * len(inputs) * (repeats + 1) * _RUN_S
        answers = self._each("run", {**models, **beside}, {_INPUTS: content.getvalue()}, header, seconds)
        found = {name: run_result(answers[name]) for name in models}
        if not scaled:
            return found
        factors = self._factors(run_result(answers[_YARDSTICK]))
        return {name: result.slower(factors) for name, result in found.items()}

    def _factors(self, yardstick: RunResult) -> np.ndarray:
        """Return what the times of every input are to be multiplied with, to be at the speed of the first measurement.

        The networks and the yardstick ran in turns, so each stretch of inputs has its own factor.
        """
        times_ms = yardstick.latency_ms
        pieces = np.array_split(times_ms, max(1, len(times_ms) // _STRETCH))
        now_ms = np.concatenate([np.full(len(piece), np.quantile(piece, _LOW)) for piece in pieces])
        factors: np.ndarray = self._memory.reference_ms(self._identity(), float(np.median(now_ms))) / now_ms
        return factors

    def _each(
        self,
        command: str,
        models: Mapping[str, bytes],
        extra: Mapping[str, bytes] | None = None,
        header: Mapping[str, object] | None = None,
        seconds: float = 0.0,
    ) -> dict[str, Event]:
        """Return the one answer to ``command`` about every model."""
        self.require()
        answers: dict[str, Event] = {}

        def take(event: Event) -> None:
            answers[event["name"]] = event

        with self._turn():
            failures = self._client.ask(command, {**models, **(extra or {})}, take, header=header, seconds=seconds)
        _raise_first(failures, models)
        return {name: answers[name] for name in models}

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        # In this order: who waits for its turn computes nothing that the one whose turn it is could wait for.
        with self._hush(), turn(self.profile, user_folder(), self._say):
            yield

    def _key(self, job: Job) -> str:
        return digest(canonical_graph(job.model), job.variant, self._identity())

    def _identity(self) -> str:
        facts = self.facts()
        # With the sensor: what was measured while it could not be read lacks an energy.
        about = (facts.onnxruntime or "", facts.machine, facts.sensor or "", _MEANING)
        return digest(self.profile.fingerprint, *about, self._yardstick_graph)

    def _unknown(self, keys: Mapping[str, str]) -> list[str]:
        """Return one name for each key that is not known, in the order of the names."""
        unknown = {key: name for name, key in reversed([*keys.items()]) if key not in self._memory}
        return list(reversed(unknown.values()))

    def _measure(self, models: Mapping[str, bytes], keys: Mapping[str, str], arrived: Callable[[int], object]) -> None:
        """Measure ``models`` and remember each as its answer arrives."""

        def take(event: Event) -> None:
            self._memory[keys[event["name"]]] = self._measurement(event)
            arrived(1)

        if models:
            self._time(models, take, self.profile.protocol)

    def _trial(self) -> float:
        """Measure the yardstick as if it were a block; return by how many per cent the machine varies."""

        def take(event: Event) -> None:
            self._measurement(event)

        with self._turn():
            self._time({"trial": self._yardstick}, take, _TRIAL)
        return self.noise_pct or 0.0

    def _time(self, models: Mapping[str, bytes], take: Callable[[Event], None], protocol: Protocol) -> None:
        header = {"protocol": protocol.model_dump(mode="json"), "yardstick": _YARDSTICK}
        files = {**models, _YARDSTICK: self._yardstick}
        failures = self._client.ask("measure", files, take, header=header, seconds=protocol.time_limit_s)
        _raise_first(failures, models)

    def _measurement(self, event: Event) -> Measurement:
        self._yardsticks.append((event["yardstick_ms"], event["yardstick_spread_pct"]))
        return Measurement(**{field.name: event[field.name] for field in fields(Measurement)})

    def _told(self, measured: Mapping[str, Measurement]) -> dict[str, Measurement]:
        if not measured:
            return {}
        now_ms = statistics.median(one.yardstick_ms for one in measured.values())
        reference_ms = self._memory.reference_ms(self._identity(), now_ms)
        return {name: self._with_energy(one.at_speed(reference_ms)) for name, one in measured.items()}

    def _with_energy(self, measurement: Measurement) -> Measurement:
        power = self.profile.power
        if measurement.energy_mj is not None or power is None:
            return measurement
        # Watts times milliseconds are millijoules.
        return replace(measurement, energy_mj=power.active_w * measurement.latency_ms, energy_source="profile")


def _raise_first(failures: Mapping[str, AebnasError], names: Iterable[str]) -> None:
    for name in names:
        if name in failures:
            raise failures[name]
