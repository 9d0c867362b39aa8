"""How far an ingest is: bars on a terminal, a line now and then elsewhere. Always on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from morganctl.output import Output, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from morganctl.ingest import View

LINE_EVERY = 100  # files


class Lines:
    """For pipes and logs."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._told = (0, 0)

    def sending(self, _name: str, _size_bytes: int) -> Callable[[int], None]:
        return lambda _sent: None

    def counts(self, found: int, sent: int, processed: int) -> None:
        now = (sent // LINE_EVERY, processed // LINE_EVERY)
        if now != self._told:
            self._told = now
            self._out.note(f"{sent} of {found} files sent, {processed} done")

    def message(self, text: str) -> None:
        self._out.note(text)


class Bars:
    """For a terminal: one bar a running upload, two for all."""

    def __init__(self, progress: Progress, out: Output) -> None:
        self._progress = progress
        self._out = out
        self._all_sent = progress.add_task("Sent", total=None)
        self._all_done = progress.add_task("Processed", total=None)

    def sending(self, name: str, size_bytes: int) -> Callable[[int], None]:
        from rich.markup import escape

        task = self._progress.add_task(escape(one_line(name)), total=max(size_bytes, 1))

        def tell(sent: int) -> None:
            if sent < 0:
                self._progress.remove_task(task)
            else:
                self._progress.advance(task, sent)

        return tell

    def counts(self, found: int, sent: int, processed: int) -> None:
        self._progress.update(self._all_sent, total=found, completed=sent)
        self._progress.update(self._all_done, total=found, completed=processed)

    def message(self, text: str) -> None:
        self._progress.console.print(one_line(text), markup=False, highlight=False)


def progress_view(out: Output) -> AbstractContextManager[View]:
    """The view that fits stderr."""
    return _bars(out) if sys.stderr.isatty() else _lines(out)


@contextmanager
def _lines(out: Output) -> Iterator[View]:
    yield Lines(out)


@contextmanager
def _bars(out: Output) -> Iterator[View]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        yield Bars(progress, out)
