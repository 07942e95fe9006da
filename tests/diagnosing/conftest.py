"""Subjects are shared with the tests of the reports on them."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1] / "report"))  # tests are imported by path

torch.set_num_threads(1)
