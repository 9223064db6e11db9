"""``kdsweep status --watch``: one experiment, looked at again and again until it runs no more."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from kdsweep.reporting.overview import render_status
from kdsweep.reporting.status import Status, read_status

_SECONDS = 2.0
# A ledger is read from its beginning each time; a long one is looked at less often.
_MOST_SHARE = 0.1


def watched_statuses(
    path: Path | str,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Status]:
    """Yield how an experiment stands, every two seconds, until it does not run any more."""
    while True:
        begin = clock()
        seen = read_status(path)
        yield seen
        if seen.state != "running" and not seen.driven:
            return
        sleep(max(_SECONDS, (clock() - begin) / _MOST_SHARE))


def watch_terminal(path: Path, console: Console) -> None:
    """Show it in place; where there is no terminal, whenever the ledger grows."""
    with suppress(KeyboardInterrupt):
        if not console.is_terminal:
            for seen in _changes(watched_statuses(path)):
                render_status(seen, console)
            return
        with Live(console=console, auto_refresh=False) as live:
            for seen in watched_statuses(path):
                live.update(_drawn(seen, console.width), refresh=True)


def watch_json(path: Path, console: Console) -> None:
    """Write one JSON object a line whenever the ledger grows."""
    with suppress(KeyboardInterrupt):
        for seen in _changes(watched_statuses(path)):
            console.file.write(json.dumps(seen.to_json(), ensure_ascii=False) + "\n")
            console.file.flush()


def _changes(seen: Iterator[Status]) -> Iterator[Status]:
    last: tuple[float | None, str] | None = None
    for one in seen:
        if (one.updated, one.state) != last:
            yield one
        last = (one.updated, one.state)


def _drawn(seen: Status, width: int) -> Text:
    """Return what :func:`render_status` prints, as one text."""
    drawing = Console(width=width, force_terminal=True, color_system="standard")
    with drawing.capture() as captured:
        render_status(seen, drawing)
    return Text.from_ansi(captured.get())
