"""The command line as a whole; each command is in the file of its group."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kdsweep import __version__
from kdsweep.cli.output import (
    INTERRUPTED,
    UNREAD,
    close_output,
    output_is_read,
    say_error,
    say_warning,
)
from kdsweep.cli.usage import UsageError, as_error, shows_help
from kdsweep.errors import ConfigError, KdsweepError
from kdsweep.registry import PluginWarning
from kdsweep.user_folders import ensure_home


class _Commands(TyperGroup):
    """Ends a command without a word when the reader of its output has left (``| head``).

    What is wrong with a command line is told as all other errors are.
    """

    def main(self, *arguments: Any, **options: Any) -> Any:
        is_alone = options.pop("standalone_mode", True)
        try:
            code = super().main(*arguments, **{**options, "standalone_mode": False})
        except typer.Abort:  # a question was left
            if not is_alone:
                raise
            print("interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)
        except UsageError as found:
            if not is_alone:
                raise
            if shows_help(found):
                print(found.ctx.get_help())
            else:
                say_error(as_error(found))
            sys.exit(ConfigError.exit_code)
        if not is_alone:
            return code
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)
        except BrokenPipeError as error:
            if output_is_read():
                # Left as it is, typer would take it for the output's and end without a word.
                raise RuntimeError("a pipe to another process has broken") from error
            close_output()
            sys.exit(UNREAD)
        return result


app = typer.Typer(
    name="kdsweep",
    cls=_Commands,
    help="Find small, accurate road-scene segmentation networks by online knowledge distillation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    epilog="Exit codes: 0 done, 1 error, 2 bad input, 3 done but trials failed, "
    "4 budget reached, 130 interrupted.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry point: errors that kdsweep raises on purpose become one message and an exit code."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        app()
    except KdsweepError as error:
        say_error(error)
        sys.exit(error.exit_code)


_python_shows = warnings.showwarning


def _show_warning(message: Any, category: type[Warning], *place: Any) -> None:
    """Show a warning that is meant for users without its place in the code."""
    if issubclass(category, PluginWarning):
        say_warning(str(message))
    else:
        _python_shows(message, category, *place)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"kdsweep {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find small, accurate road-scene segmentation networks by online knowledge distillation."""
    ensure_home()
