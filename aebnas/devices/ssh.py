"""Targets that the system's ssh reaches: how the agent is started there, and what ssh's complaints mean."""

from __future__ import annotations

import re

from aebnas.devices.boot import shell_words
from aebnas.devices.link import Place, last_opened, last_words
from aebnas.devices.profile import SshConnection
from aebnas.errors import AebnasError, DeviceError, MeasurementError, ProfileError

# Of an option given twice ssh takes the first: the words of connection.command stand before these.
_OPTIONS = ("-T", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3")
_SSH_FAILED, _NOT_EXECUTABLE, _NOT_FOUND = 255, 126, 127
_BOOT_S = 30.0
_GOES_ON = "what was measured so far is kept, and the same command goes on"


def ssh_place(connection: SshConnection) -> Place:
    """Return the host of ``connection`` as a place for an agent."""
    timeout = ("-o", f"ConnectTimeout={connection.connect_timeout_s:.0f}")
    words = shell_words(connection.python, connection.folder)
    return Place(
        name=connection.ssh,
        argv=(*connection.command, *_OPTIONS, *timeout, connection.ssh, words),
        start_s=connection.connect_timeout_s + _BOOT_S,
        not_started=lambda code, said: _not_started(connection, code, said),
        lost=lambda code, said: _lost(connection, code, said),
    )


# What ssh says, and what that means; {host} is the host, {try_it} the command that shows it.
_COMPLAINTS = (
    (r"could not resolve hostname", "there is no host {host}: check connection.ssh, or the network"),
    (
        r"host key verification failed|remote host identification has changed",
        "the host key of {host} is not known, or another than before: run `{try_it}` once and look at the key",
    ),
    (
        r"permission denied|too many authentication failures",
        "{host} does not let this user in without a password: put a key there with ssh-copy-id, or name one "
        "in connection.command ([ssh, -i, FILE])",
    ),
    (
        r"connection refused|no route to host|network is unreachable|timed out|timeout",
        "{host} cannot be reached ({reason}): check that it is on and runs an ssh server, and its port",
    ),
)


def _not_started(connection: SshConnection, code: int, said: str) -> AebnasError:
    host, python = connection.ssh, connection.python
    if code == _SSH_FAILED:
        return DeviceError(_complaint(connection, said))
    if code in (_NOT_FOUND, _NOT_EXECUTABLE):
        return ProfileError(
            f"{host} has no {python!r} that can be run: install Python 3.8 or newer there, or set connection.python"
        )
    return DeviceError(
        f"Python did not start on {host} ({last_words(said) or f'exit code {code}'}): "
        f"look at what `{_try_it(connection)} {python} -V` prints"
    )


def _complaint(connection: SshConnection, said: str) -> str:
    reason = last_words(said) or "it said nothing"
    for pattern, meaning in _COMPLAINTS:
        if re.search(pattern, said, re.IGNORECASE):
            return meaning.format(host=connection.ssh, try_it=_try_it(connection), reason=reason)
    return f"ssh does not reach {connection.ssh} ({reason}): look at what `{_try_it(connection)} true` says"


def _lost(connection: SshConnection, code: int, said: str) -> AebnasError:
    host = connection.ssh
    if code == _SSH_FAILED and re.search(r"connection|disconnect|timeout|broken pipe", said, re.IGNORECASE):
        return DeviceError(f"the connection to {host} was lost half-way: {_GOES_ON}")
    # ssh also says 255, and nothing else, when a signal ended what it ran.
    reason = (
        "it was killed, perhaps for want of memory" if code == _SSH_FAILED else last_words(said) or f"exit code {code}"
    )
    # The device is still there: a search blames what was measured, else it would end at the same block for ever.
    return MeasurementError(f"the measuring process on {host} ended half-way ({reason}{last_opened(said)}): {_GOES_ON}")


def _try_it(connection: SshConnection) -> str:
    return " ".join([*connection.command, connection.ssh])
