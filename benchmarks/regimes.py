"""Training methods beside each other on one small network, and what their papers claim put to the results.

The full benchmark runs experiments/regimes-fashion-mnist.yaml: all variants with the same network, initialisation,
data, number of epochs and way of choosing thresholds, five seeds each. A claim holds if the 95 % interval of the mean
difference, paired by seed, lies on the claimed side of 0, does not hold if it lies on the other side, and is within the
spread if it includes 0; "as accurate" holds if the interval ends above -0.5 points, does not hold if, failing that, all
of it is below 0, and is within the spread else. ``--quick`` does the same on
the digits with two seeds, which shows that everything runs.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from rich.table import Table
from rich.text import Text

from aebnas.cli import EXIT_FAILED, EXIT_INPUT, EXIT_INTERRUPTED
from aebnas.comparing.claims import MARGIN, Claim, Evidence, judge
from aebnas.comparing.compare import Comparison, compare
from aebnas.comparing.summary import Summary, summarise
from aebnas.console import err, out
from aebnas.errors import AebnasError, InputError
from aebnas.experiment import Experiment
from aebnas.files import write_text
from aebnas.progress import ConsoleProgress
from aebnas.report.comparison import difference_text, print_comparison
from aebnas.report.comparison_files import write_comparison
from aebnas.resources import resource_folder

EXPERIMENT = "regimes-fashion-mnist.yaml"
FOLDER, QUICK_FOLDER = Path("runs/regimes-benchmark"), Path("runs/regimes-quick")
_AS_ACCURATE = f"above -{100 * MARGIN:g}"
Figures = dict[str, float | str | None]
# On the digits: everything is trained, nothing is to be believed.
_QUICK = {
    "name": "regimes-quick",
    "data": {"name": "digits", "validation": 0.3, "test": 0.3},
    "backbone": {"name": "convnet", "options": {"depth": 6, "width": 8}},
    "space": "digits",
    "regime.training.batch_size": 64,
    "regime.training.lr": 0.01,
    "regime.train_samples": 600,
}
_QUICK_COMPARE = {"branch": None, "epochs": 8, "exits": 2, "seeds": 2, "grid": 10}


def experiment_of(*, quick: bool, seeds: int | None = None) -> Experiment:
    """Return what the benchmark compares."""
    full = Experiment.from_yaml(resource_folder("experiments") / EXPERIMENT)
    if quick:
        full = full.override({**_QUICK, "compare": {**full.compare.model_dump(), **_QUICK_COMPARE}})
    return full.override({"compare.seeds": seeds})


def figures_of(comparison: Comparison, summary: Summary, claims: list[Claim]) -> Figures:
    """Return one flat object: per variant its figures, and of every claim the verdict and the differences."""
    found: Figures = {"epochs": summary.epochs, "seeds": comparison.experiment.compare.seeds}
    backbone = summary.scale.backbone
    for static in summary.statics:
        found[f"accuracy_{plain(static.name)}"] = static.accuracy.mean
        found[f"macs_mean_{plain(static.name)}"] = static.cost * backbone
    for variant in summary.variants:
        name = plain(variant.name)
        # The most accurate policy within the backbone's cost, on validation; what it is on test.
        shown = {"accuracy": "accuracy_100", "macs_mean": "cost_100", "macs_mean_same": "cost_same"}
        shown |= {"macs_mean_minus1": "cost_minus1"}
        shown |= {f"accuracy_{budget}": f"accuracy_{budget}" for budget in (25, 50, 75)}
        shown |= {"area": "area", "eefp": "eefp", "ece": "ece", "forgetting": "forgetting"}
        for title, figure in shown.items():
            mean = variant.mean(figure)
            scale = backbone if title.startswith("macs") else 1.0
            found[f"{title}_{name}"] = None if mean is None else scale * mean.mean
            if title == "accuracy":
                found[f"accuracy_spread_{name}"] = None if mean is None else mean.spread
            if figure in ("cost_same", "cost_minus1"):
                # Seeds that do not reach the accuracy are not in the mean.
                found[f"seeds_{title}_{name}"] = 0 if mean is None else mean.seeds
    for claim in claims:
        found[f"claim_{claim.name}"] = claim.verdict
        for number, part in enumerate(claim.parts, 1):
            difference = part.difference
            assert difference is not None
            end = f"{claim.name}_{number}" if len(claim.parts) > 1 else claim.name
            found[f"claim_difference_{end}"] = difference.mean
            found[f"claim_low_{end}"], found[f"claim_high_{end}"] = difference.low, difference.high
            found[f"claim_seeds_{end}"] = difference.seeds
    return found


def plain(name: str) -> str:
    """Return the name of a variant as part of a key: letters, digits and underscores."""
    return re.sub(r"\W+", "_", name)


def claims_table(claims: list[Claim], seeds: int) -> Table:
    """Return the claims with their verdicts and what they rest on, of ``seeds`` seeds."""
    table = Table("claim", "difference (points, or rank correlation x 100) ± half the 95 % interval", "verdict")
    for claim in claims:
        parts = "\n".join(
            f"{part.what}: {difference_text(part.difference, seeds=seeds)}{_asked(part)}" for part in claim.parts
        )
        table.add_row(Text(claim.text), Text(parts), Text(claim.verdict, style="bold"))
    table.caption = Text(
        "holds: the whole interval lies on the claimed side of 0; does not hold: on the other; else within the spread. "
        f"{_AS_ACCURATE}: holds if the whole interval does; does not hold if, failing that, it is all below 0."
    )
    return table


def _asked(part: Evidence) -> str:
    side = "below 0" if part.lower else "above 0"
    return f" (claimed: {_AS_ACCURATE if part.tolerant else side})"


def main(words: list[str] | None = None) -> int:
    """Run the benchmark from the command line; return the exit code, as that of `aebnas`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regimes", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="digits, a tiny network, two seeds: under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    parser.add_argument(
        "--run-dir",
        type=Path,
        metavar="DIR",
        help=f"keep everything there, and go on from what is there: {FOLDER}, {QUICK_FOLDER} with --quick, by default",
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes, which share the threads")
    parser.add_argument("--seeds", type=int, metavar="N", help="instead of five; a folder may be gone on with more")
    arguments = parser.parse_args(words)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        err.print("interrupted: the same command goes on where this one stopped")
        return EXIT_INTERRUPTED
    except AebnasError as error:
        err.print(Text(f"error: {error}"), soft_wrap=True)
        return EXIT_INPUT if isinstance(error, InputError) else EXIT_FAILED


def _run(arguments: argparse.Namespace) -> int:
    found = compare(
        experiment_of(quick=arguments.quick, seeds=arguments.seeds),
        run_dir=arguments.run_dir or (QUICK_FOLDER if arguments.quick else FOLDER),
        workers=max(1, arguments.workers),
        progress=ConsoleProgress(err),
    )
    summary, claims = summarise(found), judge(found)
    written = write_comparison(summary, found.folder)
    print_comparison(summary, out)
    out.print(claims_table(claims, summary.seeds))
    if arguments.json:
        write_text(arguments.json, json.dumps(figures_of(found, summary, claims), indent=2) + "\n")
        written.append(arguments.json)
    out.print(f"Written: {', '.join(map(str, written))}", soft_wrap=True)
    return EXIT_FAILED if found.failures else 0


if __name__ == "__main__":
    sys.exit(main())
