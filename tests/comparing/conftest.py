"""What the tests of this folder share must be findable: tests are imported by path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
