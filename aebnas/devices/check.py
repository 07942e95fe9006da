"""Whether a device has what measuring needs, and what to do where it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from aebnas.devices.problems import host, install_runtime
from aebnas.devices.profile import HardwareProfile
from aebnas.devices.providers import how_to_install, offer, short_name
from aebnas.devices.results import Facts, Finding
from aebnas.errors import AebnasError

_ENOUGH_DISK_MIB = 100.0
_QUIET_PCT = 5.0


def findings(profile: HardwareProfile, facts: Facts, trial: Callable[[], float]) -> list[Finding]:
    """Return what was found on a device that answers, in the order in which it has to be put right.

    Args:
        profile: What is asked for.
        facts: What the device says about itself.
        trial: Measures something there, if all else is well; returns by how many per cent the machine varies, and
            raises what is wrong.
    """
    found = [*_machine(profile, facts), *_runtime(profile, facts), *_cores(profile, facts), *_room(profile, facts)]
    if all(finding.ok for finding in found):
        found.append(_tried(trial))
    return [*found, *_good_to_know(profile, facts)]


def _machine(profile: HardwareProfile, facts: Facts) -> Iterator[Finding]:
    yield Finding("connection", True, f"{host(profile)} answers: {facts.machine}")
    yield Finding("python", True, facts.python)


def _runtime(profile: HardwareProfile, facts: Facts) -> Iterator[Finding]:
    for name, version in (("numpy", facts.numpy), ("onnxruntime", facts.onnxruntime)):
        text = version or facts.runtime_problem or "missing"
        yield Finding(name, version is not None, text, "" if version else install_runtime(profile))
    if facts.onnxruntime is not None:
        has, wanted = profile.provider in facts.providers, short_name(profile.provider)
        fix = "" if has else f"set provider to one that is there, or {how_to_install(profile.provider)}"
        yield Finding("provider", has, f"{wanted} is {'' if has else 'not '}among {offer(facts.providers)}", fix)


def _cores(profile: HardwareProfile, facts: Facts) -> Iterator[Finding]:
    enough = profile.threads <= facts.cores
    fix = "" if enough else f"set threads to {facts.cores} or less"
    yield Finding("threads", enough, f"{profile.threads} on {facts.cores} cores", fix)


def _room(profile: HardwareProfile, facts: Facts) -> Iterator[Finding]:
    free_mib = facts.free_disk_mib
    if free_mib is not None:
        enough = free_mib >= _ENOUGH_DISK_MIB
        fix = "" if enough else "free some space in its temporary folder, or set connection.folder to another"
        yield Finding("disk", enough, f"{free_mib:,.0f} MiB free for what is measured", fix)


def _tried(trial: Callable[[], float]) -> Finding:
    try:
        noise_pct = trial()
    except AebnasError as error:
        return Finding("trial", False, "nothing could be measured", str(error))
    quiet = noise_pct <= _QUIET_PCT
    fix = "" if quiet else "stop what else runs there, and fix its clock, for latencies that can be trusted"
    return Finding("trial", True, f"measured; this machine varies by {noise_pct:.1f} %", fix)


def _good_to_know(profile: HardwareProfile, facts: Facts) -> Iterator[Finding]:
    if facts.memory_mib is not None:
        yield Finding("memory", True, f"{facts.memory_mib:,.0f} MiB")
    if facts.governor is not None:
        fix = "" if facts.governor == "performance" else "the governor performance keeps the clock from changing"
        yield Finding("clock", True, f"governor {facts.governor}", fix)
    power = "from active power" if profile.power else "no figure"
    fix = "" if facts.sensor or profile.power else "set power.active_w, in watts, if energy matters"
    yield Finding("energy", True, f"sensor {facts.sensor}" if facts.sensor else f"no readable sensor: {power}", fix)
