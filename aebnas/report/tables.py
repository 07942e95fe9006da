"""How the tables of the command line look."""

from __future__ import annotations

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text


def plain_table(title: str = "", caption: str = "") -> Table:
    """Return a table without columns: a line below the headings, none around it, title and caption on the left.

    Title and caption are no markup.
    """
    return Table(
        title=escape(title) or None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption=Text(caption) if caption else None,
        caption_justify="left",
        caption_style="",
    )
