"""Memory that was freed goes back to the system."""

import platform
import subprocess
import sys

import pytest

# The last of many blocks keeps all the others from going back by themselves.
_WASTEFUL = """
import re
from pathlib import Path
from aebnas.devices.target.heap import release

def resident_kib():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

blocks = [bytes([1]) * 65536 for _ in range(2000)]
last = blocks.pop()
full = resident_kib()
del blocks
kept = resident_kib()
release()
print(full, kept, resident_kib())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what others keep is their own affair")
def test_what_was_freed_goes_back():
    ran = subprocess.run([sys.executable, "-c", _WASTEFUL], capture_output=True, text=True, check=True)
    full, kept, left = map(int, ran.stdout.split())
    assert full - kept < 10_000, "it went back by itself: this shows nothing"
    assert full - left > 100_000
