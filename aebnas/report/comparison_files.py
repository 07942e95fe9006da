"""The files of a comparison: table, figures, picture."""

from __future__ import annotations

from pathlib import Path

from aebnas.comparing.folder import ComparisonFolder
from aebnas.comparing.summary import Summary
from aebnas.files import write_text
from aebnas.report.comparison import comparison_csv, comparison_json
from aebnas.report.comparison_figure import comparison_figure
from aebnas.report.style import save


def write_comparison(summary: Summary, folder: ComparisonFolder) -> list[Path]:
    """Write ``comparison.csv``, ``comparison.json`` and ``plots/comparison.png``; return their paths.

    Raises:
        RunError: a file cannot be written.
    """
    write_text(folder.csv_file, comparison_csv(summary))
    write_text(folder.json_file, comparison_json(summary))
    picture = save(comparison_figure(summary), folder.plots / "comparison.png")
    return [folder.csv_file, folder.json_file, picture]
