"""Where the command line prints to."""

from __future__ import annotations

import sys

from rich.console import Console

# Into a file or a pipe a table may be wide: nobody folds it there.
_PIPED_WIDTH = 160
out = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
err = Console(stderr=True, width=None if sys.stderr.isatty() else _PIPED_WIDTH)
