"""Progress of a sweep in a Jupyter notebook: the terminal's table, drawn again in place."""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console

from kdsweep.sweep.progress import LiveProgress

if TYPE_CHECKING:
    from rich.console import RenderableType

_REFRESH_SECONDS = 1.0
_STYLE = "line-height: 1.2; font-family: monospace"


def is_notebook() -> bool:
    """Return whether this code runs in a notebook's cell."""
    return Console().is_jupyter


class NotebookProgress(LiveProgress):
    """The live table as a piece of the cell's output; what lasts is printed below it."""

    def __init__(self) -> None:
        super().__init__(Console(width=100, force_jupyter=False, force_terminal=False))
        self._place: Any = None

    def _draw(self, make: Callable[[], RenderableType]) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _REFRESH_SECONDS
            with self.console.capture() as captured:
                self.console.print(make())
            self._show(captured.get())

    def abort(self) -> None:
        """Take the table away."""
        if self._place is not None:
            self._show("")

    def _show(self, text: str) -> None:
        from IPython.display import HTML, display

        shown = HTML(f'<pre style="{_STYLE}">{html.escape(text)}</pre>' if text else "")
        if self._place is None:
            self._place = display(shown, display_id=True)
        else:
            self._place.update(shown)
