"""The requests that a device's agent answers, and what it refuses as errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aebnas.devices.here import here_place
from aebnas.devices.link import Event, Link
from aebnas.devices.problems import problem
from aebnas.devices.profile import HardwareProfile, SshConnection
from aebnas.devices.ssh import ssh_place
from aebnas.errors import AebnasError

# What an agent may take for one file, of which so many may be answered for together, and a slow line for one byte,
# before it counts as stuck.
_FILE_S, _TOGETHER, _BYTE_S = 20.0, 25, 5e-6


class Client:
    """Talks to the agent on the device of ``profile``: starts it when it is needed, again when it died.

    Args:
        profile: A device that can be measured.
        patience_s: Seconds that the agent may be silent beside what a request takes.
    """

    def __init__(self, profile: HardwareProfile, patience_s: float) -> None:
        self._profile, self._patience_s = profile, patience_s
        self._link: Link | None = None

    def ask(
        self,
        command: str,
        files: Mapping[str, bytes],
        take: Callable[[Event], None],
        *,
        header: Mapping[str, Any] | None = None,
        seconds: float = 0.0,
    ) -> dict[str, AebnasError]:
        """Send one request; return what failed, by the names of the files.

        Args:
            command: What to do.
            files: Contents by any names.
            take: Is given each answer as it arrives.
            header: The rest of the request.
            seconds: What the agent may need for the work itself.

        Raises:
            AebnasError: the agent cannot be started, does not answer, is lost, or refuses the request as a whole.
        """
        failures: dict[str, AebnasError] = {}

        def on_event(event: Event) -> None:
            if event["event"] == "error":
                failures[event["name"]] = problem(event, self._profile)
            else:
                take(event)

        request = {"command": command, "settings": self._settings(), **(header or {})}
        size = sum(map(len, files.values()))
        patience_s = self._patience_s + seconds + min(len(files), _TOGETHER) * _FILE_S + size * _BYTE_S
        ended_by = self._open().request(request, files, on_event, patience_s=patience_s)
        if ended_by is not None:
            raise problem(ended_by, self._profile)
        return failures

    def close(self) -> None:
        """End the agent; the next request starts another."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _open(self) -> Link:
        if self._link is None or not self._link.alive:
            self.close()
            at = self._profile.connection
            link = Link(ssh_place(at) if isinstance(at, SshConnection) else here_place())
            if link.refused is not None:
                link.close()
                raise problem(link.refused, self._profile)
            self._link = link
        return self._link

    def _settings(self) -> dict[str, Any]:
        return self._profile.model_dump(mode="json", include={"threads", "affinity", "provider", "provider_options"})
