"""What typer finds wrong with a command line, in the form of all other errors."""

from __future__ import annotations

from typing import Any

import typer

from kdsweep.errors import ConfigError, close_names

# typer brings a click of its own in some versions; its names for this are not public.
UsageError: Any = typer.BadParameter.__mro__[1]


def as_error(found: Any) -> ConfigError:
    """Return a usage error as one of ours: what is wrong, the value, what may stand there.

    Args:
        found: typer's; its message is a sentence, perhaps with one more that names what is near.
    """
    command = found.ctx.command_path if found.ctx is not None else "kdsweep"
    help_ = f"{command} --help"
    if (option := getattr(found, "option_name", None)) is not None and found.ctx is not None:
        parameters = found.ctx.command.get_params(found.ctx)
        opts = [name for one in parameters for name in (*one.opts, *one.secondary_opts)]
        names = [name.lstrip("-") for name in opts if name.startswith("--")]
        near = close_names(option.lstrip("-"), names, num=1)
        hint = f"did you mean `--{near[0]}`?" if near else help_
        return ConfigError("no such option", value=option, hint=hint, file=command)
    problem, _, more = found.format_message().partition(". ")
    problem = problem.rstrip(".")
    hint = more[:1].lower() + more[1:] if more else help_
    return ConfigError(problem[:1].lower() + problem[1:], hint=hint, file=command)


def shows_help(found: Any) -> bool:
    """Return whether there is nothing wrong but that a group was called without a command."""
    return type(found).__name__ == "NoArgsIsHelpError"
