"""Progress of long work, as stages that advance; shown by rich on a terminal, or by nobody."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichBars
from rich.text import Text

logger = logging.getLogger(__name__)
_PLAIN = "plain"
# From here on steps are images, over all epochs: nobody wants to know how many, and a share says more.
_MANY = 1000


def counted(done: int, total: int) -> str:
    """Return how far a stage is: ``3/60``, or ``42 %`` of what nobody would count."""
    return f"{done}/{total}" if total < _MANY else f"{100 * done // total} %"


class Stage:
    """One piece of work of ``total`` steps; this one shows nothing."""

    def advance(self, steps: int = 1) -> None:
        """Count ``steps`` more as done."""

    def note(self, text: str) -> None:
        """Show ``text`` behind the bar."""

    def within(self, seconds: float) -> None:
        """Say that the stage ends in so many seconds at most, however much is left then."""

    def doing(self, who: str, text: str | None) -> None:
        """Show in a line of its own what one of several workers is doing; None: it does nothing any more."""


class Progress:
    """Progress that nobody watches; the base of those that are watched."""

    @contextlib.contextmanager
    def stage(self, label: str, total: int, done: int = 0) -> Iterator[Stage]:
        """Open a stage of ``total`` steps, ``done`` of them earlier, for the length of the block."""
        yield Stage()

    def say(self, text: str) -> None:
        """Show one line that stays."""
        logger.info(text)


class _BarStage(Stage):
    def __init__(self, bars: RichBars, task: TaskID) -> None:
        self._bars, self._task = bars, task
        self._workers: dict[str, TaskID] = {}

    def advance(self, steps: int = 1) -> None:
        self._bars.advance(self._task, steps)

    def note(self, text: str) -> None:
        self._bars.update(self._task, note=text)

    def within(self, seconds: float) -> None:
        self._bars.update(self._task, end=time.monotonic() + seconds)

    def doing(self, who: str, text: str | None) -> None:
        if text is None:
            task = self._workers.pop(who, None)
            if task is not None:
                self._bars.remove_task(task)
        elif who in self._workers:
            self._bars.update(self._workers[who], description=f"  {who}: {text}")
        else:
            self._workers[who] = self._bars.add_task(f"  {who}: {text}", total=None, note="", **{_PLAIN: True})


class _Only(ProgressColumn):
    """A column that lines of workers, which have no bar, leave empty."""

    def __init__(self, inner: ProgressColumn) -> None:
        super().__init__()
        self._inner = inner

    def render(self, task: Task) -> RenderableType:
        return "" if task.fields.get(_PLAIN) else self._inner(task)


class _CountColumn(ProgressColumn):
    """How far a stage is."""

    def render(self, task: Task) -> Text:
        return Text(counted(int(task.completed), int(task.total or 0)), style="progress.download")


class _LeftColumn(ProgressColumn):
    """The time that is left, at most up to the end that the stage has."""

    max_refresh = 0.5  # as rich's own: digits that change with every step cannot be read

    def render(self, task: Task) -> Text:
        left_s, end = task.time_remaining, task.fields.get("end")
        if left_s is not None and end is not None:
            left_s = min(left_s, max(0.0, end - time.monotonic()))
        shown = "-:--:--" if left_s is None else str(timedelta(seconds=round(left_s)))
        return Text(shown, style="progress.remaining")


class _LineStage(Stage):
    """A stage for logs and pipes: a line at most every ``interval_s``, with the time left."""

    def __init__(self, console: Console, label: str, total: int, done: int, interval_s: float = 15.0) -> None:
        self._console, self._label, self._total, self._interval_s = console, label, total, interval_s
        self._done = self._earlier = done
        self._text = ""
        self._end = math.inf
        self._start = self._last = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        now = time.monotonic()
        # A step of 0 says that work has begun: before anything is done there is no telling how long it takes.
        if now - self._last >= self._interval_s and self._done > self._earlier:
            self._last = now
            left_s = (now - self._start) / (self._done - self._earlier) * (self._total - self._done)
            left_s = min(left_s, max(0.0, self._end - now))
            text = f"{self._text and ': '}{self._text}"
            line = f"{self._label}: {counted(self._done, self._total)}, about {left_s:.0f} s left{text}"
            # In one line however narrow: others read it from a log; and a label may name a file, which is no markup.
            self._console.print(line, soft_wrap=True, markup=False)

    def note(self, text: str) -> None:
        self._text = text

    def within(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds


class ConsoleProgress(Progress):
    """Progress bars with time left on a terminal; sparse lines where the output is a file or a pipe."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextlib.contextmanager
    def stage(self, label: str, total: int, done: int = 0) -> Iterator[Stage]:
        if not self.console.is_terminal:
            yield _LineStage(self.console, label, total, done)
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            _Only(BarColumn(bar_width=24)),
            _Only(_CountColumn()),
            _Only(TimeElapsedColumn()),
            _Only(TextColumn("left")),
            _Only(_LeftColumn()),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with RichBars(*columns, console=self.console, transient=True) as bars:
            yield _BarStage(bars, bars.add_task(label, total=total, completed=done, note=""))

    def say(self, text: str) -> None:
        # Names of classes and files are no markup.
        self.console.print(text, soft_wrap=True, markup=False)
