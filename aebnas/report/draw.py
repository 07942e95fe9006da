"""All pictures of a run."""

from __future__ import annotations

import logging
from pathlib import Path

from matplotlib.figure import Figure

from aebnas.costs.kinds import COSTS, LATENCY, MACS
from aebnas.prepare import Prepared
from aebnas.report.front import Front
from aebnas.report.history import hypervolume_figure, read_trials
from aebnas.report.importance import importance_figure
from aebnas.report.network import cumulative_macs, network_figure
from aebnas.report.pareto import axis_of, pareto_figure
from aebnas.report.prepared import prepared_if_known
from aebnas.report.shares import shares_figure
from aebnas.report.style import save
from aebnas.run import Run
from aebnas.searching.genes import network_genes
from aebnas.spaces.genome import build_genome

logger = logging.getLogger(__name__)


def draw_all(run: Run, folder: Path) -> list[Path]:
    """Draw every picture of ``run`` as a PNG file in ``folder``, and return their paths.

    ``pareto.png`` is over the first cost that is an objective; beside it there is one over every other cost that is an
    objective, a limit or the target, over latency and over MACs. ``network.png`` is left out, with a warning, where the
    backbone came from Python and is not at hand.

    Raises:
        RunError: a file of the run is missing or damaged, or the folder cannot be written.
    """
    return [save(figure, folder / f"{name}.png") for name, figure in figures(run).items()]


def figures(run: Run) -> dict[str, Figure]:
    """Return every picture of ``run`` by its name.

    Raises:
        RunError: a file of the run is missing or damaged.
    """
    front, trials, prepared = Front.of(run), read_trials(run), prepared_if_known(run)
    backbone = None if prepared is None else prepared.backbone
    points = () if backbone is None else backbone.attach_points
    shown = [name for name in dict.fromkeys([*front.costs, LATENCY, MACS]) if front.knows(COSTS[name].column)]
    made = {
        f"pareto_{name}" if place else "pareto": pareto_figure(front, axis_of(name)) for place, name in enumerate(shown)
    }
    if backbone is None:
        logger.warning("network.png is left out: the model or data of this run came from Python and are not at hand")
    else:
        made["network"] = network_figure(front.pick, cumulative_macs(backbone))
    made["exit_shares"] = shares_figure(front, [point.name for point in points])
    made["hypervolume"] = hypervolume_figure(trials)
    made["importance"] = importance_figure(trials, run.experiment.search.objectives, gene_points(run, prepared))
    return made


def gene_points(run: Run, prepared: Prepared | None) -> list[str]:
    """Return the attach points by the number that genes know them by; points that no head fits have none."""
    if prepared is None:
        return []
    backbone = prepared.backbone
    genome = build_genome(
        run.folder.space(),
        backbone.attach_points,
        backbone.num_classes,
        network_genes(run.experiment, run.folder.profile().precisions),
    )
    return [point.name for point in genome.points]
