"""What an agent complains about, as errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable

from aebnas.devices.here import NAME
from aebnas.devices.link import Event
from aebnas.devices.profile import HardwareProfile, SshConnection
from aebnas.devices.providers import how_to_install, offer, short_name
from aebnas.devices.results import Facts
from aebnas.errors import AebnasError, DeviceError, MeasurementError, ProfileError


def problem(event: Event, profile: HardwareProfile) -> AebnasError:
    """Return the error for the ``error`` event of an agent on the device of ``profile``."""
    make = _BY_KIND.get(event["kind"], _unforeseen)
    return make(str(event["message"]), profile)


def host(profile: HardwareProfile) -> str:
    """Return what messages call the device."""
    return profile.connection.ssh if isinstance(profile.connection, SshConnection) else NAME


def python_of(profile: HardwareProfile) -> str:
    """Return the command that starts the device's Python, from here."""
    at = profile.connection
    return " ".join([*at.command, at.ssh, at.python]) if isinstance(at, SshConnection) else "python"


def install_runtime(profile: HardwareProfile) -> str:
    """Return how numpy and onnxruntime get onto the device."""
    return (
        f"run `{python_of(profile)} -m pip install numpy onnxruntime`; where the system forbids that, make an "
        "environment with `python3 -m venv ~/aebnas` and set connection.python to ~/aebnas/bin/python; "
        "there are wheels for x86-64 and 64-bit Arm (aarch64) only, so a 32-bit system has to be replaced"
    )


def missing_runtime(facts: Facts, profile: HardwareProfile) -> AebnasError:
    """Return the error for a device without numpy or onnxruntime."""
    return _runtime(f"Python {facts.python} there: {facts.runtime_problem}", profile)


def missing_provider(facts: Facts, profile: HardwareProfile) -> AebnasError:
    """Return the error for a device whose onnxruntime does not have the profile's provider."""
    return ProfileError(
        f"hardware profile {profile.name!r}: the onnxruntime of {host(profile)} has no provider "
        f"{short_name(profile.provider)!r}: choose one of {offer(facts.providers)}, "
        f"or {how_to_install(profile.provider)}"
    )


def _runtime(message: str, profile: HardwareProfile) -> AebnasError:
    return DeviceError(f"{host(profile)} cannot measure ({message}): {install_runtime(profile)}")


def _provider(message: str, profile: HardwareProfile) -> AebnasError:
    return ProfileError(f"hardware profile {profile.name!r} asks {host(profile)} for what it does not have: {message}")


def _block(message: str, profile: HardwareProfile) -> AebnasError:
    return MeasurementError(f"{message}; measured with hardware profile {profile.name!r}")


def _disk(message: str, profile: HardwareProfile) -> AebnasError:
    setting = ", or set connection.folder to one with more" if isinstance(profile.connection, SshConnection) else ""
    return DeviceError(
        f"cannot write to the temporary folder of {host(profile)} ({message}): free some space there{setting}; "
        "what was measured so far is kept, and the same command goes on"
    )


def _python(message: str, profile: HardwareProfile) -> AebnasError:
    return ProfileError(
        f"{message} on {host(profile)} is too old: install Python 3.8 or newer there, and set connection.python to it"
    )


def _request(message: str, profile: HardwareProfile) -> AebnasError:
    return ProfileError(f"hardware profile {profile.name!r} does not fit {host(profile)}: {message}")


def _unforeseen(message: str, profile: HardwareProfile) -> AebnasError:
    return MeasurementError(f"measuring on {host(profile)} failed: {message}")


_BY_KIND: dict[str, Callable[[str, HardwareProfile], AebnasError]] = {
    "runtime": _runtime,
    "provider": _provider,
    "block": _block,
    "disk": _disk,
    "python": _python,
    "request": _request,
}
