"""What all pictures share: colours that colour-blind readers can tell apart, sizes, saving."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aebnas.files import atomic_path

# Okabe and Ito's palette.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION = "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00"
GREY, PALE = "#767676", "#E4E4E4"
DPI = 150
TEXT, SMALL, TITLE = 10.0, 9.0, 12.0


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty white figure that keeps its labels inside; it belongs to no global state."""
    return Figure(figsize=(width_in, height_in), facecolor="white", layout="constrained")


def tidy(axes: Axes, *, grid: str = "both") -> None:
    """Take away what carries no information, and put a light grid behind the data."""
    axes.set_facecolor("white")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis=grid, color=PALE, linewidth=0.8)  # type: ignore[arg-type]


def say_instead(axes: Axes, text: str) -> None:
    """Show a sentence where there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=TEXT, color=GREY, wrap=True)


def save(figure: Figure, path: Path) -> Path:
    """Write ``figure`` as PNG.

    Raises:
        RunError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)
    return path
