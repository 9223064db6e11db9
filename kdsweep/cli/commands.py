"""All commands with their options as Markdown, made from the command line itself.

To bring them up to date::

    python -m kdsweep.cli.commands docs/commands.md
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from kdsweep.cli import app
from kdsweep.cli.options import NO_SPACE

_HEAD = """\
# Commands

Made from the command line itself (`python -m kdsweep.cli.commands docs/commands.md`);
`kdsweep COMMAND --help` shows the same.

Where no experiment is named, commands that take one take `experiments/latest`, and say so. Options
that have no default are off or left to kdsweep. `--quiet` and `--json` are for scripts. Exit codes:
0 done, 1 error, 2 bad input, 3 done but trials failed (`kdsweep resume --retry-failed`), 4 budget
reached, 130 interrupted. `kdsweep --install-completion` lets the tab key complete commands,
options, experiments, spaces, losses and encoders, in bash, zsh and fish.
"""


def as_markdown() -> str:
    """Return the text of ``docs/commands.md``."""
    found = list(_commands(typer.main.get_command(app), "kdsweep"))
    lines = [_HEAD, "| command | what it does |", "| --- | --- |"]
    for name, command in found:
        anchor = name.replace(" ", "-")
        lines.append(f"| [`{name}`](#{anchor}) | {_cell(_paragraphs(command)[0])} |")
    for name, command in found:
        lines += ["", *_section(name, command)]
    return "\n".join(lines) + "\n"


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield commands with their names, those of groups too, in the order of ``--help``."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for key, one in inner.items():
        yield from _commands(one, f"{name} {key}")


def _paragraphs(command: Any) -> list[str]:
    text = inspect.cleandoc(command.help or "")
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _section(name: str, command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    shown = []
    for one in arguments:
        word = one.metavar or one.name.upper()
        word += "…" if one.nargs == -1 else ""
        needed = one.required or one.default == NO_SPACE
        shown.append(word if needed else f"[{word}]")
    yield f"## {name}"
    yield ""
    yield f"`{' '.join([name, *shown])}`"
    for paragraph in _paragraphs(command):
        yield ""
        yield paragraph
    rows = [(word.strip("[]"), one) for word, one in zip(shown, arguments, strict=True)]
    rows += [(_flags(one), one) for one in options]
    if not rows:
        return
    yield ""
    yield "| | | default |"
    yield "| --- | --- | --- |"
    for word, one in rows:
        yield f"| `{_cell(word)}` | {_cell(one.help or '')} | {_default(one)} |"


def _flags(option: Any) -> str:
    names = ", ".join(option.opts)
    if option.secondary_opts:
        return f"{names} / {', '.join(option.secondary_opts)}"
    return names if option.is_flag else f"{names} {_value(option)}"


def _value(option: Any) -> str:
    return str(option.metavar or option.name.upper().strip("_"))


def _default(parameter: Any) -> str:
    value = parameter.default
    if value is None or isinstance(value, bool) or callable(value) or parameter.required:
        return ""
    text = str(value)
    return "" if text in ("SPACE", "[]", "()") or "UNSET" in text else f"`{text}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(as_markdown(), encoding="utf-8")
