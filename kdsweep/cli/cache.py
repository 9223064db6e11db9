"""The command for the decode cache."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from kdsweep.cli.app import app
from kdsweep.cli.options import Json
from kdsweep.cli.output import terminal
from kdsweep.errors import ConfigError
from kdsweep.plain_text import counted


@app.command("cache")
def cache_command(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="The cache's folder; KDSWEEP_CACHE or ~/.cache/kdsweep if left out.",
            show_default=False,
        ),
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove what no process uses; it is made again.")
    ] = False,
    older_than: Annotated[
        float | None,
        typer.Option(
            "--older-than", metavar="DAYS", min=0, help="Only what was not used for so long."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List decoded frames and generated scenes, with sizes and last use, or remove them."""
    from kdsweep.data.cache_admin import cache_entries, clear_cache
    from kdsweep.data.fingerprint import default_cache

    if older_than is not None and not clear:
        raise ConfigError("--older-than says what to remove", hint="kdsweep cache --clear")
    cache = default_cache() if folder is None else folder.expanduser()
    entries = clear_cache(cache, older_than or 0.0) if clear else cache_entries(cache)
    if as_json:
        for one in entries:
            print(json.dumps({**vars(one), "path": str(one.path)}, ensure_ascii=False))
        return
    console = terminal()
    now = time.time()
    for one in entries:
        used = "in use" if one.in_use else _ago(now - one.used)
        console.print(
            f"{_size(one.size):>9}  {used:>12}  {one.path.name}  {one.name}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    total = _size(sum(one.size for one in entries))
    what = "removed" if clear else "in all"
    number = "1 entry" if len(entries) == 1 else f"{len(entries)} entries"
    text = f"{cache}: {number}, {total} {what}"
    if clear and (left := len(cache_entries(cache))):
        text += f"; {left} left, in use or used since"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def _ago(seconds: float) -> str:
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return f"{counted(int(seconds // length), unit)} ago"
    return "just now"
