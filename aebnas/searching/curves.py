"""What the curves of a search's trainings are called."""

from __future__ import annotations

from aebnas.searching.plan import Plan
from aebnas.training.log import FINAL_EXIT, Subject, layers_text


def subject_of_branch(plan: Plan, number: int) -> Subject:
    """Return what is told of the training of branch ``number``; it has the name of its record in ``branches``."""
    branch = plan.spec.branches[number]
    name = f"branch-{plan.branch_keys[number]}"
    return Subject(name, plan.budget, plan.spec.regime, (branch.attach,), (layers_text(branch),))


def subject_of_network(plan: Plan) -> Subject:
    """Return what is told of the training of a whole network; it has the name of its record in ``networks``."""
    branches = plan.spec.branches
    exits = (*(branch.attach for branch in branches), FINAL_EXIT)
    layers = (*map(layers_text, branches), "")
    return Subject(f"network-{plan.network_key}", plan.budget, plan.spec.regime, exits, layers)
