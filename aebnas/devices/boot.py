"""Bringing the agent to a target: its code in one archive, and the few lines that receive and start it there."""

from __future__ import annotations

import io
import json
import shlex
import zipfile
from pathlib import Path

_PACKAGES = ("aebnas", "aebnas/devices")
_OLDEST_PYTHON = (3, 8)
_EPOCH = (1980, 1, 1, 0, 0, 0)

# Runs on whatever Python the target has, hence the plain words up to the check of its version. It reads the archive's
# length and the archive from its input, which the agent then goes on reading.
_BOOT = """\
import json, sys

def fail(kind, message):
    print(json.dumps({"event": "error", "kind": kind, "message": message, "name": None}))
    sys.stdout.flush()
    sys.exit(1)

if sys.version_info < OLDEST:
    fail("python", "Python %d.%d" % sys.version_info[:2])

import os, runpy, shutil, signal, tempfile

def stop(number, frame):
    sys.exit(128 + number)

def on_end(action):
    for name in ("SIGTERM", "SIGHUP", "SIGINT"):
        signal.signal(getattr(signal, name), action)

on_end(stop)
content = sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))
place = os.path.expanduser(FOLDER or tempfile.gettempdir())
folder = None
try:
    try:
        folder = tempfile.mkdtemp(prefix="aebnas-", dir=place)
        agent = os.path.join(folder, "agent.pyz")
        with open(agent, "wb") as file:
            file.write(content)
    except OSError as error:
        fail("disk", "%s: %s" % (place, error.strerror))
    sys.argv = [agent, folder]
    runpy.run_path(agent, run_name="__main__")
finally:
    # The agent is told to end when nobody listens any more, which may be right now.
    on_end(signal.SIG_IGN)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
"""


def agent_archive() -> bytes:
    """Return ``aebnas.devices.target`` as an archive that Python runs; the same bytes for the same code."""
    here = Path(__file__).parent / "target"
    files = {f"aebnas/devices/target/{path.name}": path.read_text(encoding="utf-8") for path in here.glob("*.py")}
    files |= {f"{package}/__init__.py": "" for package in _PACKAGES}
    files["__main__.py"] = "from aebnas.devices.target.agent import main\n\nmain()\n"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name, text in sorted(files.items()):
            target.writestr(zipfile.ZipInfo(name, _EPOCH), text, zipfile.ZIP_DEFLATED)
    return archive.getvalue()


def boot_code(folder: str | None) -> str:
    """Return the Python code, one line without single quotes, that receives the agent and runs it below ``folder``.

    Before it does, it may print one error event: ``python`` when the interpreter is too old, ``disk`` when the
    archive cannot be written.
    """
    code = _BOOT.replace("OLDEST", str(_OLDEST_PYTHON)).replace("FOLDER", json.dumps(folder) if folder else "None")
    # A JSON text is a Python literal; every shell leaves it alone inside single quotes.
    return f"exec({json.dumps(code)})".replace("'", "\\u0027")


def shell_words(python: str, folder: str | None) -> str:
    """Return the command that a POSIX shell runs on the target; a ``~/`` in front of ``python`` is its home."""
    home, path = ("~/", python[2:]) if python.startswith("~/") else ("", python)
    return f"exec {home}{shlex.quote(path)} -c {shlex.quote(boot_code(folder))}"


def first_message(archive: bytes) -> bytes:
    """Return what the boot code reads before the agent's first request."""
    return b"%d\n%b" % (len(archive), archive)
