"""One agent process, here or on a target, and the requests that it answers."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from aebnas.devices.boot import agent_archive, first_message
from aebnas.errors import AebnasError, DeviceError

Event = dict[str, Any]
_PROTOCOL = 1
_LINES_KEPT = 50
# The agent writes what it opens, in case onnxruntime takes it down.
_OPENING = "opening "
_GOODBYE_S = 5.0
_HANGING_S = 1.0


@dataclass(frozen=True)
class Place:
    """Where an agent runs, and what it means when it does not.

    Attributes:
        name: What messages call it.
        argv: Starts the boot code there, its input and output connected.
        start_s: Seconds within which the agent has to come up.
        not_started: The error for an exit code and what stderr said when it did not.
        lost: The same for an agent that was gone before it had answered.
    """

    name: str
    argv: Sequence[str]
    start_s: float
    not_started: Callable[[int, str], AebnasError]
    lost: Callable[[int, str], AebnasError]


class Link:
    """An agent in ``place``; it ends with this object, or when its input does.

    Raises:
        AebnasError: the agent did not come up; the place knows why.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._said: list[str] = []
        self._process = _start(place)
        self._readers = [_in_background(self._read_answers), _in_background(self._read_complaints)]
        self.refused: Event | None = None
        """The error with which the boot code or the agent gave up before it was ready."""
        with self._killed_on_error():
            self._write([first_message(agent_archive())])
            self.refused = self._until_ready(time.monotonic() + place.start_s)

    @property
    def alive(self) -> bool:
        """Whether the agent can take a request."""
        return self._process.poll() is None and self.refused is None

    def request(
        self,
        header: Mapping[str, Any],
        files: Mapping[str, bytes],
        on_event: Callable[[Event], None],
        *,
        patience_s: float,
    ) -> Event | None:
        """Send one request, call ``on_event`` for each event as it arrives, and return the error that ended it, if any.

        Args:
            header: The request without its files.
            files: Contents by the names that the header uses.
            on_event: Is given all events but the last; among them the errors of single files.
            patience_s: Seconds without any event after which the agent is given up.

        Raises:
            DeviceError: the agent does not answer. AebnasError: what the place makes of an agent that is gone.
        """
        listed = [{"name": name, "size": len(content)} for name, content in files.items()]
        line = json.dumps({**header, "files": listed}).encode() + b"\n"
        # Whatever goes wrong: what is still to come would be taken for the answer to the next request.
        with self._killed_on_error():
            writer = self._write([line, *files.values()])
            while True:
                event = self._event(patience_s)
                if event["event"] == "done" or (event["event"] == "error" and event.get("name") is None):
                    writer.join(_GOODBYE_S)
                    return event if event["event"] == "error" else None
                on_event(event)

    def close(self) -> None:
        """Say goodbye; an agent that does not leave is ended."""
        with contextlib.suppress(OSError):
            _pipe(self._process.stdin).close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GOODBYE_S)
        self._kill()

    def _until_ready(self, deadline: float) -> Event | None:
        while True:
            event = self._event(max(deadline - time.monotonic(), 0.0), lost=self.place.not_started)
            if event["event"] == "error":
                return event
            if event["event"] == "ready":
                if event["protocol"] != _PROTOCOL:
                    raise DeviceError(f"{self.place.name} runs the agent of another version of aebnas")
                return None

    def _event(self, patience_s: float, lost: Callable[[int, str], AebnasError] | None = None) -> Event:
        """Return the next event; what else is printed there, such as a login's greeting, is passed over."""
        while True:
            try:
                line = self._lines.get(timeout=patience_s)
            except queue.Empty:
                raise DeviceError(
                    f"no answer from {self.place.name} for {patience_s:.0f} s: look whether it is busy or stuck; "
                    "what was measured so far is kept, and the same command goes on"
                ) from None
            if line is None:
                raise (lost or self.place.lost)(*self._ending())
            event = _parsed(line)
            if event is not None:
                return event

    def _ending(self) -> tuple[int, str]:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GOODBYE_S)
        self._readers[1].join(_HANGING_S)
        code = self._process.poll()
        return (0 if code is None else code), "\n".join(self._said)

    def _write(self, parts: Sequence[bytes]) -> threading.Thread:
        pipe = _pipe(self._process.stdin)

        def write() -> None:
            # An agent that is gone is noticed where its answers are read.
            with contextlib.suppress(OSError, ValueError):
                for part in parts:
                    pipe.write(part)
                pipe.flush()

        return _in_background(write)

    def _read_answers(self) -> None:
        with _pipe(self._process.stdout) as pipe:
            for line in pipe:
                self._lines.put(line)
        self._lines.put(None)

    def _read_complaints(self) -> None:
        with _pipe(self._process.stderr) as pipe:
            for line in pipe:
                self._said.append(line.decode(errors="replace").rstrip())
                del self._said[:-_LINES_KEPT]

    @contextlib.contextmanager
    def _killed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._kill()
            raise

    def _kill(self) -> None:
        for end in (self._process.terminate, self._process.kill):
            if self._process.poll() is None:
                end()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_GOODBYE_S)
        # A shared ssh connection that outlives this one may keep its end of stderr: do not wait for it.
        for reader in self._readers:
            reader.join(_HANGING_S)
        with contextlib.suppress(OSError):
            _pipe(self._process.stdin).close()


def last_words(said: str) -> str:
    """Return the last line of an agent's stderr that complains of something, or ""."""
    lines = [line.strip() for line in said.splitlines() if not line.startswith(_OPENING)]
    return next((line for line in reversed(lines) if line), "")


def last_opened(said: str) -> str:
    """Return, for a message, the model that an agent was at by its stderr, or ""."""
    opened = [line.removeprefix(_OPENING) for line in said.splitlines() if line.startswith(_OPENING)]
    return f"; the last block that it opened is {opened[-1]}" if opened else ""


def _start(place: Place) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    try:
        # In a session of its own: Ctrl-C is for this process, which then ends the agent.
        return subprocess.Popen(list(place.argv), stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    except OSError as error:
        raise DeviceError(f"cannot start {place.argv[0]} ({error.strerror}): install it, or check PATH") from error


def _parsed(line: bytes) -> Event | None:
    try:
        event = json.loads(line[line.index(b'{"event"') :])
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
