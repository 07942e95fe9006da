"""What an examination of an installation found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from aebnas.devices.results import Finding


@dataclass(frozen=True)
class Section:
    """Findings of one kind; one that is well and still says what to do is worth knowing, not wrong.

    Args:
        brief: Those that need no word are shown together on few lines.
    """

    name: str
    findings: Sequence[Finding]
    brief: bool = False


@dataclass(frozen=True)
class Health:
    """All findings, section by section."""

    sections: Sequence[Section]

    @property
    def ok(self) -> bool:
        """Whether nothing that a search needs is missing or broken."""
        return all(finding.ok for section in self.sections for finding in section.findings)

    def to_json(self) -> dict[str, Any]:
        """Return all findings by the names of their sections."""
        found = {section.name: [asdict(finding) for finding in section.findings] for section in self.sections}
        return {"ok": self.ok, "sections": found}


def print_health(health: Health, console: Console) -> None:
    """Show every section as a small table, and how it stands with all."""
    for section in health.sections:
        plain = [one for one in section.findings if section.brief and one.ok and not one.fix]
        table = Table.grid(padding=(0, 1))
        table.add_column(width=4)
        table.add_column(max_width=20, overflow="fold")
        table.add_column(overflow="fold")
        console.print(section.name, style="bold", highlight=False)
        if plain:
            console.print(Padding(escape(", ".join(map(_brief, plain))), (0, 0, 0, 2)), highlight=False)
        for one in section.findings:
            if one not in plain:
                table.add_row(*_row(one))
        if table.row_count:
            console.print(table)
    broken = sum(not one.ok for section in health.sections for one in section.findings)
    notes = sum(bool(one.ok and one.fix) for section in health.sections for one in section.findings)
    if broken:
        console.print(f"[red]{broken} to put right[/red], marked [red]NO[/red] above.", highlight=False)
    else:
        worth = f"; {notes} worth knowing, marked [yellow]![/yellow]" if notes else ""
        console.print(f"[green]A search can run here[/green]{worth}.", highlight=False)


def _brief(finding: Finding) -> str:
    return f"{finding.what} {finding.text}".strip()


def _row(finding: Finding) -> tuple[str, str, str]:
    mark = "  [red]NO[/red]" if not finding.ok else "  [yellow]![/yellow]" if finding.fix else "  [green]ok[/green]"
    fix = f"\n[dim]{escape(finding.fix)}[/dim]" if finding.fix else ""
    return mark, escape(finding.what), f"{escape(finding.text)}{fix}"
