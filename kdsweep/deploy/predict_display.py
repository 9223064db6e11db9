"""The progress bar of predictions. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from kdsweep.data.pictures import FrameError
from kdsweep.deploy.inputs import Input, count_frames

if TYPE_CHECKING:
    from rich.console import Console

_LONGEST_NAME = 40


@contextmanager
def predict_progress(
    console: Console,
) -> Iterator[tuple[Callable[[list[Input]], None], Callable[[Input], None]]]:
    """A bar, drawn while the block runs; gives what :func:`predict` calls as it goes."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # Into a file it would write an empty line.
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("looking", total=None)

        def begin(found: list[Input]) -> None:
            progress.update(task, total=_total(found))

        def advance(given: Input) -> None:
            progress.update(task, advance=1, description=given.path.name[-_LONGEST_NAME:])

        yield begin, advance


def _total(found: list[Input]) -> int | None:
    """Frames in all, as far as files state them; a bar without an end if one does not."""
    total = 0
    for given in found:
        try:
            count = count_frames(given)
        except FrameError:
            count = 0
        if count is None:
            return None
        total += count
    return total
