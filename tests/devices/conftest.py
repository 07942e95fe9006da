"""A real ssh server on this machine, and targets behind it with nothing, or with numpy and onnxruntime only."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from aebnas.devices.profile import HardwareProfile

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Server:
    """A running sshd; ``config`` is an ssh configuration in which it is called ``target``."""

    process: subprocess.Popen[bytes]
    port: int
    config: Path
    folder: Path

    def command(self, *options: str) -> list[str]:
        return ["ssh", "-F", str(self.config), *options]

    def profile(self, python: str | Path, *options: str, host: str = "target", **changes: object) -> HardwareProfile:
        """Return a profile for the interpreter ``python`` behind this server; temporary files go where it lies."""
        connection = {"ssh": host, "command": self.command(*options), "python": str(python), "connect_timeout_s": 10}
        connection |= changes.pop("connection", {})
        return HardwareProfile(**{"name": "board", "description": "", "connection": connection, **changes})

    def cut_connections(self) -> None:
        """End every session that is open, as a network that breaks would."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=True)
        subprocess.run(["kill", "-9", *found.stdout.split()], check=True)


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An sshd on loopback with keys of its own, that lets this user in."""
    if SSHD is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no sshd, ssh and ssh-keygen here")
    folder, port = tmp_path_factory.mktemp("ssh"), free_port()
    for key in ("host_key", "user_key", "other_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    host_key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    config = folder / "config"
    config.write_text(
        f"Host target\n  HostName 127.0.0.1\n  Port {port}\n"
        f"Host *\n  IdentityFile {folder}/user_key\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    log = folder / "log"
    with log.open("wb") as complaints:
        process = subprocess.Popen([*_sshd(folder / "sshd_config"), "-D", "-e"], stderr=complaints)
    try:
        _wait_for(process, port, log)
        server = Server(process, port, config, folder)
        if subprocess.run([*server.command(), "target", "true"], capture_output=True, check=False).returncode:
            pytest.skip(f"this user cannot log in to an sshd of its own: {log.read_text()[-500:]}")
        yield server
    finally:
        process.terminate()
        process.wait()


def _sshd(config: Path) -> list[str]:
    """Return the server's command; newer ones would lock out an address that fails as often as these tests do."""
    forgiving = [str(SSHD), "-f", str(config), "-o", "PerSourcePenalties=no"]
    known = subprocess.run([*forgiving, "-t"], capture_output=True, check=False).returncode == 0
    return forgiving if known else forgiving[:3]


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(100):
        if process.poll() is not None:
            pytest.skip(f"sshd does not start: {log.read_text()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    pytest.fail("sshd does not listen")


def environment(folder: Path, packages: Sequence[str]) -> Path:
    """Make an environment that holds ``packages`` and nothing else, not even pip; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    if packages:
        install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
        done = subprocess.run([*install, "-c", CONSTRAINTS, *packages], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot install {' and '.join(packages)}: {done.stderr[-300:]}")
    return python


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment without any package."""
    return environment(tmp_path_factory.mktemp("bare") / "env", [])


@pytest.fixture(scope="session")
def target_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The interpreter of an environment with numpy and onnxruntime, without what these would bring along."""
    folder = tmp_path_factory.mktemp("target") / "env"
    try:
        yield environment(folder, ["numpy", "onnxruntime"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def script(path: Path, lines: str) -> Path:
    """Write an executable shell script, to stand in for a program."""
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return path
