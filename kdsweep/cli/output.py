"""What all commands print with; exit codes beside those of errors."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.errors import ConfigError, KdsweepError
from kdsweep.plain_text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

SOME_FAILED = 3
INTERRUPTED = 130
# As of a process that SIGPIPE has ended, which is how other tools take a reader that leaves.
UNREAD = 141


def say_error(error: KdsweepError) -> None:
    """Print an error that kdsweep raised on purpose."""
    # Plain text, not markup: messages hold file names and YAML with brackets.
    style = "\033[1;31m" if sys.stderr.isatty() else ""
    reset = "\033[0m" if style else ""
    print(f"{style}error:{reset} {_lines(str(error))}", file=sys.stderr)


def say_warning(text: str) -> None:
    """Print a warning."""
    print(f"warning: {_lines(text)}", file=sys.stderr)


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def terminal(**options: Any) -> Console:
    """The terminal, with options of rich's console."""
    from rich.console import Console
    from rich.segment import Segment

    class Terminal(Console):
        """Obeys no text, and passes a broken pipe on, so that every command ends alike."""

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            # Names of classes and files come from others.
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else _lines(text), style, control)

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    return Terminal(markup=False, **options)


def output_is_read() -> bool:
    """Return whether standard output has a reader, or is none that could leave."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return not any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):
        return True


def close_output() -> None:
    """Let what is left in the buffer of standard output go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def relative(path: Path) -> Path:
    """A path as short as it can be said from here."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def write_new(path: Path, text: str, hint: str) -> None:
    """Write a file that is not there yet.

    Raises:
        ConfigError: It is there, or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path}: there already, and nothing is overwritten", hint=hint) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
