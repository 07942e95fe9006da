"""Serves requests from the standard input until it ends; ``python agent.pyz [FOLDER]``, FOLDER takes its files.

A request is a line of JSON, ``{"command": ..., "files": [{"name": ..., "size": bytes}, ...], ...}``, and the bytes of
its files. Answers are lines of JSON, called events. An ``error`` event with a ``name`` concerns one file, and the
request goes on; the last event of a request is ``done`` or an ``error`` without a name.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from aebnas.devices.target.errors import DISK, REQUEST, RUNTIME, Refused, in_one_line
from aebnas.devices.target.frames import Answers, Cut, Garbled, Header, read_header, receive, skip
from aebnas.devices.target.heap import release
from aebnas.devices.target.info import facts, installed

PROTOCOL = 1
# Of opset 17, which the blocks are written in.
_OLDEST_RUNTIME = (1, 12)
_DISK_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR),
)


def main() -> None:
    """Serve until the input ends, or nobody reads the answers any more."""
    answers = Answers(_protected_output())
    for name in ("SIGTERM", "SIGHUP", "SIGINT"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _stop)
    folder = sys.argv[1] if len(sys.argv) > 1 else None
    try:
        answers.event("ready", protocol=PROTOCOL)
        Agent(sys.stdin.buffer, answers, folder).serve()
    except BrokenPipeError:
        sys.exit(1)


class Agent:
    """Serves the requests on ``requests``; ``folder`` takes their files, the system's temporary folder when None."""

    def __init__(self, requests: IO[bytes], answers: Answers, folder: str | None) -> None:
        self._requests = requests
        self._answers = answers
        self._folder = folder
        self._pinned: Any = None

    def serve(self) -> None:
        """Serve until the input ends.

        Raises:
            BrokenPipeError: nobody reads the answers.
        """
        try:
            header = read_header(self._requests)
            while header is not None:
                self._answer(header)
                # It may wait for hours: what dozens of sessions took is for others.
                release()
                header = read_header(self._requests)
        except Cut:
            return
        except Garbled as error:
            self._answers.refused(Refused(REQUEST, in_one_line(error)))

    def _answer(self, header: Header) -> None:
        try:
            with self._files_of(header) as (files, folder):
                self._do(header, files, folder)
        except Refused as error:
            self._answers.refused(error)
        except (BrokenPipeError, Cut):
            raise
        except OSError as error:
            self._answers.refused(_refusal(error))
        except Exception as error:  # a bug of the agent's: told, so that the client does not wait for an answer
            traceback.print_exc()
            self._answers.refused(Refused(REQUEST, f"the agent failed: {type(error).__name__}: {in_one_line(error)}"))
        else:
            self._answers.event("done")

    def _do(self, header: Header, files: dict[str, Path], folder: Path) -> None:
        command = header.get("command", str)
        if command == "info":
            self._answers.event("facts", **facts(self._folder))
            return
        _require_runtime()
        from aebnas.devices.target.commands import COMMANDS, Work, serve
        from aebnas.devices.target.settings import Pinned

        if command not in COMMANDS:
            raise Refused(REQUEST, f"there is no command {command!r}: known are info, {', '.join(COMMANDS)}")
        self._pinned = self._pinned or Pinned()
        serve(command, Work(header, files, folder, self._answers), self._pinned)

    @contextmanager
    def _files_of(self, header: Header) -> Iterator[tuple[dict[str, Path], Path]]:
        """Write the request's files into a folder of their own, which goes away afterwards."""
        try:
            folder = Path(tempfile.mkdtemp(prefix="request-", dir=self._folder))
        except OSError:
            skip(self._requests, sum(header.sizes.values()))
            raise
        try:
            yield receive(self._requests, header.sizes, folder), folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _require_runtime() -> None:
    for package in ("numpy", "onnxruntime"):
        module, problem = installed(package)
        if module is None:
            raise Refused(RUNTIME, f"{problem} for {sys.executable}: run {sys.executable} -m pip install {package}")
    version = tuple(int(part) for part in module.__version__.split(".")[:2])
    if version < _OLDEST_RUNTIME:
        oldest = ".".join(map(str, _OLDEST_RUNTIME))
        raise Refused(
            RUNTIME,
            f"onnxruntime {module.__version__} is older than {oldest}: "
            f"run {sys.executable} -m pip install --upgrade onnxruntime",
        )


def _refusal(error: OSError) -> Refused:
    where = f" ({error.filename})" if error.filename else ""
    kind = DISK if error.errno in _DISK_ERRORS else REQUEST
    return Refused(kind, f"{error.strerror or in_one_line(error)}{where}")


def _protected_output() -> IO[bytes]:
    """Return the standard output for the protocol alone; what libraries print goes to the standard error."""
    sys.stdout.flush()
    answers = os.dup(1)
    os.dup2(2, 1)
    _stop_when_unread(answers)
    return os.fdopen(answers, "wb")


def _stop_when_unread(answers: int) -> None:
    """Stop this process as soon as the other end of ``answers`` is gone.

    Else an agent whose connection broke would measure on, and disturb the one that comes after it.
    """
    import select  # its poll is not on every system

    if not hasattr(select, "poll"):
        return
    poller = select.poll()
    poller.register(answers, 0)  # errors and hang-ups are told always

    def watch() -> None:
        poller.poll()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _stop(number: int, _: Any) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
