"""What one part of a benchmark gives."""

from __future__ import annotations

from dataclasses import dataclass

Figure = float | str | bool | None


@dataclass(frozen=True)
class Section:
    """Figures for the JSON file by their keys, and rows for people: what it is, and its value."""

    figures: dict[str, Figure]
    rows: list[tuple[str, str]]
