"""What the tests of this folder share: it must be findable, as tests are imported by path, and one comparison."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from made_up_results import VARIANTS

from aebnas.comparing.compare import compare


@pytest.fixture(scope="session")
def base(toy_experiment):
    options = {"variants": VARIANTS, "exits": 2, "epochs": 6, "backbone_share": 0.5, "seeds": 2, "grid": 6}
    return toy_experiment(compare=options, regime__train_samples=96)


@pytest.fixture(scope="session")
def found(base, tmp_path_factory):
    """A comparison with all variants."""
    return compare(base, run_dir=tmp_path_factory.mktemp("compared"))
