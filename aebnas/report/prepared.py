"""The data and the backbone of a run, for reports: loaded, never trained."""

from __future__ import annotations

from aebnas.experiment import CUSTOM
from aebnas.prepare import Prepared
from aebnas.run import Run


def prepared_if_known(run: Run) -> Prepared | None:
    """Return data and backbone, or None where either came from Python and was not given to ``run`` again.

    Raises:
        RunError: the trained backbone is missing or damaged.
    """
    experiment = run.experiment
    if (experiment.backbone.name == CUSTOM and experiment.model is None) or (
        experiment.data.name == CUSTOM and experiment.datasets is None
    ):
        return None
    return run.prepared()
