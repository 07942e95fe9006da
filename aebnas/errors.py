"""Every error a user can cause; each message is one sentence that names the key, file or flag and the fix."""

from __future__ import annotations


class AebnasError(Exception):
    """Base of all errors raised on purpose; the command line turns it into exit code 1."""


class InputError(AebnasError):
    """Something the user gave is wrong; the command line turns it into exit code 2."""


class ExperimentError(InputError):
    """The experiment file, or an option that overrides one of its keys, is wrong."""


class DataError(InputError):
    """A data set is missing, damaged or does not fit the experiment."""


class BackboneError(InputError):
    """A backbone cannot be built, loaded or used."""


class TraceError(BackboneError):
    """A backbone cannot be traced or has no single-tensor cut."""


class BranchError(InputError):
    """A branch specification does not fit the tensor at its attach point."""


class SpaceError(InputError):
    """A search space is wrong or holds nothing that fits the backbone."""


class ProfileError(InputError):
    """A hardware profile is wrong, missing, or asks for what this runtime does not offer."""


class RunError(InputError):
    """A file of a run folder or of an exported network is missing or damaged, or a choice from it is impossible."""


class MissingExtraError(InputError):
    """An optional dependency is needed and not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: run pip install 'aebnas[{extra}]' to use this")


class RunFailed(AebnasError):
    """A search or an export could not be finished: nothing meets the limits, everything failed, the disk is full."""


class TrainingError(AebnasError):
    """Training one candidate failed (a loss that is not finite, say); a search records it and goes on."""


class MeasurementError(AebnasError):
    """A block could not be measured on the device."""


class DeviceError(MeasurementError):
    """The device itself cannot be used now: unreachable, lost, without runtime or disk; it is no candidate's fault."""
