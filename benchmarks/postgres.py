"""A real PostgreSQL server in a temporary folder, for the benchmark and for the tests, which kill it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_PROGRAMS = ("postgres", "initdb", "createdb", "pg_isready")
_USER = "tester"
_START_S, _LOOK_EVERY_S = 30.0, 0.1


class PostgresServer:
    """A server that may be killed and started again.

    Args:
        programs: The folder of the server's programs.
        folder: Where its data go; ``user`` can write there.
        user: The system's user that it runs as; None: the one of this process.
        settings: Such as ``max_connections=200``.
    """

    def __init__(self, programs: Path, folder: Path, user: str | None, settings: tuple[str, ...]) -> None:
        self._programs, self._folder, self._user, self._settings = programs, folder, user, settings
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run("initdb", "-D", folder / "data", "--auth=trust", f"--username={_USER}", "--encoding=UTF8")

    def start(self) -> None:
        """Start it, again after :meth:`kill` too, and wait until it answers.

        Raises:
            RuntimeError: it does not.
        """
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            if self._process is None or self._process.poll() is not None:
                # After a kill, what is left of its children may keep it from starting for a moment.
                self._process = self._launch()
            if self._run("pg_isready", "-h", "127.0.0.1", "-p", self.port, check=False) == 0:
                return
            time.sleep(_LOOK_EVERY_S)
        raise RuntimeError(f"PostgreSQL does not start: {(self._folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """End it and every process of it at once, as a power failure would: kill -9."""
        if self._process is None:
            return
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        pids = children.read_text().split() if children.exists() else []
        for pid in (self._process.pid, *map(int, pids)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def create_database(self) -> str:
        """Make an empty database and return its URL."""
        self.start()
        self._databases += 1
        name = f"number{self._databases}"
        self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", _USER, name)
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{name}"

    def _launch(self) -> subprocess.Popen[bytes]:
        place = ["-D", self._folder / "data", "-k", self._folder, "-h", "127.0.0.1", "-p", str(self.port)]
        command = [self._programs / "postgres", *place, *(f"--{setting}" for setting in self._settings)]
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, user=self._user, cwd=self._folder)

    def _run(self, program: str, *words: object, check: bool = True) -> int:
        command = [str(self._programs / program), *map(str, words)]
        return subprocess.run(command, check=check, capture_output=True, user=self._user, cwd=self._folder).returncode


@contextlib.contextmanager
def postgres_server(*settings: str) -> Iterator[PostgresServer | None]:
    """Give a server that runs for the length of the block; None: this machine has no PostgreSQL.

    Raises:
        RuntimeError: it does not start.
    """
    programs = _programs()
    if programs is None:
        yield None
        return
    # It refuses to run as root, to whom alone other folders of a test or a benchmark may be open.
    user = ("postgres" if _is_user("postgres") else "nobody") if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="aebnas-postgres-", ignore_cleanup_errors=True) as name:
        if user is not None:
            shutil.chown(name, user)
        server = PostgresServer(programs, Path(name), user, settings)
        try:
            server.start()
            yield server
        finally:
            server.kill()


def _programs() -> Path | None:
    """Return the folder of the server's programs, which Debian keeps from the path."""
    found = shutil.which("postgres")
    folders = [*([Path(found).resolve().parent] if found else []), *Path("/usr/lib/postgresql").glob("*/bin")]
    return next((folder for folder in folders if all((folder / name).exists() for name in _PROGRAMS)), None)


def _is_user(name: str) -> bool:
    import pwd  # not on every system

    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False
