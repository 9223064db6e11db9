"""Commands for this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kdsweep.cli.app import app
from kdsweep.cli.options import OneJson, Out
from kdsweep.cli.output import terminal

if TYPE_CHECKING:
    from kdsweep.sweep.doctor import Diagnosis


@app.command()
def doctor(
    out: Out = Path("experiments"),
    as_json: OneJson = False,
) -> None:
    """Say what kdsweep runs with here, for a bug report; exit code 1 if a sweep would not start.

    It shows no folder of yours and no keys.
    """
    from kdsweep.sweep.doctor import diagnose

    found = diagnose(out)
    if as_json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        _show(found)
    raise typer.Exit(1 if found.problems else 0)


@app.command("ray-token")
def ray_token() -> None:
    """Print the token that Ray's page of workers and logs asks for."""
    from kdsweep.sweep.ray.token import read_token

    print(read_token())


def _show(found: Diagnosis) -> None:
    console = terminal()

    def print_(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    for section, facts in found.facts.items():
        if facts:
            print_(section, "bold")
        for name, value in facts.items():
            print_(f"  {name.removesuffix('_bytes').replace('_', ' ')}: {_text(name, value)}")
    for problem in found.problems:
        print_(f"problem: {problem}", "bold red")
    for warning in found.warnings:
        print_(f"warning: {warning}", "yellow")
    if not found.problems:
        print_("nothing here would stop a sweep", "green")


def _text(name: str, value: Any) -> str:
    if value is None or value == []:
        return "none" if not name.endswith("_bytes") else "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return f"{value / (1 << 30):.1f} GiB" if name.endswith("_bytes") else str(value)
