"""How a request wants its models to run, and what of that a process can choose only once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aebnas.devices.target.errors import REQUEST, Refused
from aebnas.devices.target.frames import Header
from aebnas.devices.target.session import CPU, open_session, pool_threads, share_threads


@dataclass(frozen=True)
class Settings:
    """The part of a hardware profile that decides what a latency is."""

    threads: int
    affinity: tuple[int, ...] | None
    provider: str
    provider_options: Mapping[str, Any]

    def open(self, model: str, profile_prefix: str | None = None) -> Any:
        """Open the model at a path as it is measured: batch 1, on the threads that all sessions share.

        Raises:
            ProviderRefused, or one of ``RUNTIME_ERRORS``, as ``open_session`` does.
        """
        return open_session(
            model,
            threads=self.threads,
            provider=self.provider,
            provider_options=self.provider_options,
            batch=1,
            shared_threads=True,
            profile_prefix=profile_prefix,
        )


def settings_of(header: Header) -> Settings:
    """Return the settings that a request names.

    Raises:
        Refused: one is of the wrong kind.
    """
    values = Header(header.get("settings", dict, {}), {})
    threads = values.get("threads", int, 1)
    if threads < 1:
        raise Refused(REQUEST, f"threads is {threads}: it has to be at least 1")
    affinity = values.values.get("affinity")
    if affinity is not None:
        affinity = tuple(values.get("affinity", list))
        if not affinity or not all(type(core) is int for core in affinity):
            raise Refused(REQUEST, f"affinity is {list(affinity)}: it has to be a list of numbers of cores")
    return Settings(
        threads=threads,
        affinity=affinity,
        provider=values.get("provider", str, CPU),
        provider_options=values.get("provider_options", dict, {}),
    )


class Pinned:
    """The cores and the threads of this process, which are settled by its first request."""

    def __init__(self) -> None:
        self._settled: tuple[tuple[int, ...] | None, int] | None = None

    def settle(self, settings: Settings) -> None:
        """Pin this process as ``settings`` say, before onnxruntime starts its threads.

        Raises:
            Refused: it is pinned in another way already, or the cores are not to be had.
        """
        wanted = (settings.affinity, pool_threads(settings.threads, settings.provider))
        if self._settled is None:
            if settings.affinity is not None:
                _pin(settings.affinity)
            share_threads(wanted[1])
            self._settled = wanted
        elif self._settled != wanted:
            raise Refused(REQUEST, "threads or affinity differ from those of an earlier request: start another agent")


def _pin(cores: tuple[int, ...]) -> None:
    if not hasattr(os, "sched_setaffinity"):
        raise Refused(REQUEST, f"affinity is {list(cores)}: this system cannot pin a process, leave the key out")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cores)
        if os.sched_getaffinity(0) == set(cores):
            return
    except (OSError, OverflowError, ValueError):
        pass  # none of them exists
    os.sched_setaffinity(0, before)
    offered = ", ".join(map(str, sorted(before)))
    raise Refused(REQUEST, f"affinity is {list(cores)}: not all of these cores are to be had, choose from {offered}")
