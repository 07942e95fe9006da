"""What the curves of a comparison's trainings are called: one per variant and seed, or per branch that trains alone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from aebnas.branches.spec import BranchSpec
from aebnas.comparing.jobs import Job
from aebnas.training.log import FINAL_EXIT, Subject, layers_text

_BUDGET = "compare"


def subject_of(job: Job, specs: Sequence[BranchSpec]) -> Subject:
    """Return what is told of the training of ``job``, by all its exits.

    Args:
        specs: The branches, in the order of their attach points.
    """
    if job.kind == "variants":
        # Variants differ in what no file may be called; the key is that of what the training says, beside it.
        plain = re.sub(r"[^\w.=+-]+", "-", job.variants[0].name)
        name = f"{plain}-{job.variants[0].training_key}-seed{job.seed}"
        exits = (*(spec.attach for spec in specs), FINAL_EXIT)
        return Subject(name, _BUDGET, job.variants[0].name, exits, (*map(layers_text, specs), ""))
    if job.exit is None:
        name = "backbone" if job.kind == "backbone" else "static-backbone"
        return Subject(f"{name}-seed{job.seed}", _BUDGET, "", (FINAL_EXIT,), ("",))
    spec, name = specs[job.exit], f"static-exit{job.exit + 1}-seed{job.seed}"
    return Subject(name, _BUDGET, "", (spec.attach,), (layers_text(spec),))


def of_branch(subject: Subject, number: int) -> Subject:
    """Return what is told of one branch of a variant that trains its branches each on its own."""
    return dataclasses.replace(
        subject,
        name=f"{subject.name}-exit{number + 1}",
        exits=(subject.exits[number],),
        layers=(subject.layers[number],),
    )
