"""The command for the search spaces that come with kdsweep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from kdsweep.cli import completion
from kdsweep.cli.app import app
from kdsweep.cli.options import Json
from kdsweep.cli.output import terminal, write_new
from kdsweep.errors import ConfigError


@app.command()
def spaces(
    copy: Annotated[
        str | None,
        typer.Option(
            "--copy",
            metavar="NAME",
            help="Copy this one here, to change it.",
            autocompletion=completion.shipped,
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="With --copy: another file, or a folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the search spaces that come with kdsweep, with question and cost, or copy one."""
    if copy is not None:
        print(_copy(copy, Path() if to is None else to.expanduser()))
    elif to is not None:
        raise ConfigError("--to says where a copy goes", hint="kdsweep spaces --copy NAME --to …")
    else:
        _list(as_json)


def _copy(name: str, to: Path) -> Path:
    from kdsweep.config.shipped import shipped_file

    file = shipped_file(name)
    target = to / file.name if to.is_dir() else to
    write_new(target, file.read_text(encoding="utf-8"), "another file with --to FILE.yaml")
    return target


def _list(as_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from kdsweep.config.shipped import shipped_spaces

    found = shipped_spaces()
    if as_json:
        for space in found:
            print(json.dumps({**vars(space), "path": str(space.path)}, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("space", no_wrap=True, style="bold")
    table.add_column("question, and cost")
    for space in found:
        table.add_row(space.name, Text(space.question).append(f"\ncost: {space.cost}", style="dim"))
    console = terminal()
    console.print(table)
    console.print(
        "\nkdsweep run NAME runs one, kdsweep spaces --copy NAME makes a file of it to change.",
        markup=False,
        highlight=False,
    )
