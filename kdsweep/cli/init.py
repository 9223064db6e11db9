"""The command that writes a first search space for a user's own data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdsweep.cli.app import app
from kdsweep.cli.data import image_size_of
from kdsweep.cli.options import DataKeys, ImageSize
from kdsweep.cli.output import relative, terminal, write_new
from kdsweep.cli.progress import step_progress
from kdsweep.errors import ConfigError

if TYPE_CHECKING:
    from kdsweep.data.look import Look
    from kdsweep.sweep.proposal import Proposal

_HOURS = 8.0
# With fewer frames without labels for each labelled one they are left out.
_WORTH = 0.1


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The data set's folder.", show_default=False)],
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="FILE.yaml",
            help="File to write; left out: named after the folder, here.",
            show_default=False,
        ),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(min=0, help="Hours that the sweep may take; 8 if left out.", metavar="HOURS"),
    ] = None,
    unlabelled: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A folder of pictures without labels, to learn from too; left out: images without "
            "a mask, if there are some; `none`: no such pictures.",
            show_default=False,
        ),
    ] = None,
    max_params: Annotated[
        float | None,
        typer.Option(min=0, metavar="MILLIONS", help="Most parameters of a student, in millions."),
    ] = None,
    image_size: ImageSize = None,
    weights: Annotated[
        bool | None,
        typer.Option(
            "--weights/--no-weights",
            help="Begin with ImageNet weights or without; left out: where they can be had.",
            show_default=False,
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure/--no-measure", help="Time a few steps, to fit into the hours."),
    ] = True,
    set_: DataKeys = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing; take the defaults.")
    ] = False,
) -> None:
    """Write a first search space for your own data, of a size that fits this machine.

    Looks at the data as `kdsweep data` does. On a terminal it asks for the hours, for pictures
    without labels and for the largest student, unless a flag gives them. Overwrites nothing.
    With few hours it lowers the image size, then epochs, then trials, and says so.
    """
    from kdsweep.config.job import folder_name
    from kdsweep.data.look import look_at_folder
    from kdsweep.sweep.proposal import Wishes, as_text, propose, refuse_problems, said_of

    size = image_size_of(image_size)
    name = folder_name(to.stem if to is not None else path.expanduser().resolve().name)
    file = Path(f"{name}.yaml") if to is None else to.expanduser()
    if file.exists():  # before minutes of looking
        raise ConfigError(
            f"{file}: there already, and nothing is overwritten", hint="another file with --to"
        )
    if not file.parent.is_dir():
        raise ConfigError(f"--to: no folder {file.parent}")
    with step_progress("looking") as progress:
        look = look_at_folder(path, size, set_ or (), progress, with_unlabelled=True)
    refuse_problems(look)
    data_lines = list(said_of(look))
    for line in data_lines:
        _say(line)
    answers = _Answers(yes)
    wishes = Wishes(
        hours=answers.get("--hours", hours, "Hours that the sweep may take", _HOURS, float),
        unlabelled=_folder(
            answers.get(
                "--unlabelled", unlabelled, "Folder of pictures without labels", _worth(look), Path
            )
        ),
        max_params_m=answers.get(
            "--max-params", max_params, "Most parameters of a student, in millions", None, float
        ),
        weights=weights,
        fixed_size=size is not None,
        measure=measure,
    )
    look = _with_rows(look, file)
    with step_progress("looking for ImageNet weights") as advance:
        proposal = propose(look, name, wishes, lambda doing: advance(doing, 0, 0))
    for line in proposal.lines:
        _say(line)
    write_new(
        file,
        as_text(proposal, [*_head(file, path, wishes.hours, proposal), *data_lines]),
        "another file with --to",
    )
    _say(f"\nwrote {relative(file)}; it is yours to change. Next:", "bold")
    for command, what in (
        (f"kdsweep plan {file}", "what it would train, and how long"),
        (f"kdsweep run {file} --hours {wishes.hours:g}", "the sweep"),
        ("kdsweep report", "the answer"),
    ):
        _say(f"  {command:<40}  {what}")


def _worth(look: Look) -> Path | None:
    """The folder with pictures without masks, where they are enough to change anything."""
    num_labelled = look.health.splits["train"].num_frames
    return look.unlabelled if look.num_unlabelled >= _WORTH * num_labelled else None


def _folder(given: Path | None) -> Path | None:
    """What ``--unlabelled`` says; the word ``none`` is no folder."""
    return None if given == Path("none") else given


def _say(text: str, style: str = "") -> None:
    terminal().print(text, style=style, markup=False, highlight=False, soft_wrap=True)


class _Answers:
    """What a user says: by flags, else on a terminal when asked, else nothing."""

    def __init__(self, yes: bool) -> None:
        self._asks = not yes and sys.stdin.isatty() and sys.stdout.isatty()

    def get(self, flag: str, given: Any, question: str, default: Any, kind: Any) -> Any:
        """Return a flag's value, an answer, or the default, which is then said."""
        if given is not None:
            return given
        shown = f"{default:g}" if isinstance(default, float) else str(default or "none")
        if not self._asks:
            _say(f"{question}: {shown} (change it with {flag})", "dim")
            return default
        while True:
            answer = typer.prompt(f"{question} ({flag})", default=shown).strip()
            if answer == shown:
                return default
            if answer == "none" and isinstance(default, Path):
                return None
            try:
                value = kind(answer)
            except ValueError:
                _say(f"not a number: {answer}")
                continue
            if isinstance(value, float) and not value > 0:
                _say("a number above 0")
            elif isinstance(value, Path) and not value.expanduser().is_dir():
                _say(f"no folder {value}")
            else:
                return value


def _with_rows(look: Look, file: Path) -> Look:
    """Write the list of pairs that a section needs beside the space."""
    from dataclasses import replace

    from kdsweep.data.look import write_rows

    if not look.rows:
        return look
    pairs = file.with_name(f"{file.stem}-pairs.csv").resolve()
    write_new(pairs, write_rows(look.rows), "another file with --to")
    _say(f"wrote {relative(pairs)}: which mask belongs to which image")
    return replace(look, section={**look.section, "pairs": str(pairs)})


def _head(file: Path, path: Path, hours: float, proposal: Proposal) -> list[str]:
    return [
        "Which teacher and student suit these data, and what does the teacher add?",
        "",
        f"Cost: {hours:g} hours on the machine that this was written on.",
        "",
        f"Written by `kdsweep init {path}`. Run it with:",
        "",
        f"    kdsweep run {file} --hours {hours:g}",
        "",
        *proposal.lines,
        "",
    ]
