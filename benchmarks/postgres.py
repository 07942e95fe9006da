"""A real PostgreSQL server in a temporary folder, for as long as it is needed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("postgres", "initdb", "createdb", "pg_isready")
_START_S = 30.0


@contextlib.contextmanager
def postgres_database(*, connections: int) -> Iterator[str | None]:
    """Give the URL of an empty database of a server of its own; None: this machine has no PostgreSQL.

    Args:
        connections: That it takes at most.

    Raises:
        RuntimeError: it does not start.
    """
    programs = _programs()
    if programs is None:
        yield None
        return
    # It refuses to run as root.
    user = ("postgres" if _is_user("postgres") else "nobody") if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="aebnas-postgres-", ignore_cleanup_errors=True) as name:
        if user is not None:
            shutil.chown(name, user)
        folder = Path(name)

        def run(program: str, *words: object, check: bool = True) -> int:
            command = [str(programs / program), *map(str, words)]
            return subprocess.run(command, check=check, capture_output=True, user=user, cwd=folder).returncode

        run("initdb", "-D", folder / "data", "--auth=trust", "--username=bench", "--encoding=UTF8")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        place = ["-D", folder / "data", "-k", folder, "-h", "127.0.0.1", "-p", str(port)]
        with (folder / "log").open("ab") as log:
            server = subprocess.Popen(
                [programs / "postgres", *place, f"--max_connections={connections}"],
                stdout=log,
                stderr=log,
                user=user,
                cwd=folder,
            )
        try:
            until = time.monotonic() + _START_S
            while run("pg_isready", "-h", "127.0.0.1", "-p", port, check=False):
                if time.monotonic() > until or server.poll() is not None:
                    raise RuntimeError(f"PostgreSQL does not start: {(folder / 'log').read_text()[-2000:]}")
                time.sleep(0.1)
            run("createdb", "-h", "127.0.0.1", "-p", port, "-U", "bench", "bench")
            yield f"postgresql://bench@127.0.0.1:{port}/bench"
        finally:
            server.send_signal(signal.SIGINT)  # without waiting for its clients
            server.wait()


def _programs() -> Path | None:
    """Return the folder of the server's programs, which Debian keeps from the path."""
    found = shutil.which("postgres")
    folders = [*([Path(found).resolve().parent] if found else []), *Path("/usr/lib/postgresql").glob("*/bin")]
    return next((folder for folder in folders if all((folder / name).exists() for name in PROGRAMS)), None)


def _is_user(name: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False
