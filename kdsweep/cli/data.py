"""The command that looks at a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdsweep.cli.app import app
from kdsweep.cli.options import DataKeys, ImageSize, Json
from kdsweep.cli.output import terminal
from kdsweep.cli.progress import step_progress
from kdsweep.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from kdsweep.data.look import Look
    from kdsweep.data.source import SplitName

# As for bad input: a training would refuse this data.
_REFUSED = 2


@app.command("data")
def data_command(
    path: Annotated[Path, typer.Argument(help="The data set's folder.", show_default=False)],
    image_size: ImageSize = None,
    set_: DataKeys = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sheet",
            metavar="FILE.png",
            help="Write a contact sheet: image, mask and both, the rarest classes first.",
            show_default=False,
        ),
    ] = None,
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="Write classes.yaml into PATH where there is none, and data.yaml here.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what a data set holds and what is wrong with it; exit code 2 if it should not be used."""
    from kdsweep.data.look import look_at_folder

    if sheet is not None:
        _check_sheet(sheet)
    with step_progress("looking", quiet=as_json) as progress:
        look = look_at_folder(path, image_size_of(image_size), set_ or (), progress)
    if as_json:
        print(json.dumps(_as_json(look), ensure_ascii=False))
    else:
        _show(look, terminal())
    if write:
        _write(look, quiet=as_json)
    if sheet is not None:
        from kdsweep.data.sheet import write_sheet

        try:
            num_frames = write_sheet(look.health, sheet)
        except OSError as error:
            raise ConfigError(f"{sheet} cannot be written: {error.strerror}") from None
        if not as_json:
            print(f"{sheet}: {num_frames} frames")
    if any(finding.problem for finding in look.health.findings):
        raise typer.Exit(_REFUSED)


def image_size_of(text: str | None) -> tuple[int, int] | None:
    """Return what ``--image-size`` says."""
    if text is None:
        return None
    sides = text.replace("x", ",").split(",")
    if len(sides) != 2 or not all(side.strip().isdecimal() and int(side) for side in sides):
        raise ConfigError("not a size", value=text, allowed="HEIGHT,WIDTH in pixels: 256,512")
    return int(sides[0]), int(sides[1])


def _check_sheet(path: Path) -> None:
    """Refuse before the look what would fail after it."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError("not a picture", path=("--sheet",), value=str(path), allowed="FILE.png")
    if not path.parent.is_dir():
        raise ConfigError(f"--sheet: no folder {path.parent}")


def _splits(look: Look) -> list[SplitName]:
    names: list[SplitName] = ["train", "val", "test"]
    return [name for name in names if name in look.health.splits]


def _show(look: Look, console: Console) -> None:
    from rich.table import Table

    health = look.health

    def print_(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    print_(f"{health.data.source_path}", "bold")
    print_(f"layout: {look.layout}; masks: {look.values.describe()}")
    sizes: dict[tuple[int, int], int] = {}
    for split in health.splits.values():
        for size, count in split.sizes.items():
            sizes[size] = sizes.get(size, 0) + count
    most = sorted(sizes, key=lambda size: -sizes[size])[:3]
    text = ", ".join(f"{sizes[size]} of {size[1]}×{size[0]}" for size in most)
    print_(f"frames: {text}" + (f", … ({len(sizes)} sizes)" if len(sizes) > 3 else ""))
    if health.data.identity is not None:
        print_(f"fingerprint: {health.data.identity.short}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("class", overflow="fold")
    for name in _splits(look):
        table.add_column(name, justify="right")
        table.add_column("in frames", justify="right")
    for k, label in enumerate(health.data.classes):
        cells = []
        for name in _splits(look):
            split = health.splits[name]
            absent = not split.frames_K[k]
            cells += ["-" if absent else _percent(split.shares_K[k]), str(split.frames_K[k])]
        table.add_row(label, *cells)
    cells = []
    for name in _splits(look):
        split = health.splits[name]
        cells += [_percent(split.void), f"of {split.num_frames}"]
    table.add_row("void", *cells, style="dim")
    console.print(table)
    for finding in health.findings:
        if finding.problem is None:
            print_(f"note: {finding.text}", "yellow")
        else:
            print_(f"problem ({finding.problem}): {finding.text}", "bold red")
            if finding.hint:
                print_(f"  try: {finding.hint}")
    if not health.fits:
        print_("too few training frames to tell whether labels fit images")
    elif not health.findings:
        print_("nothing to say against it; labels fit their images", "green")
    if look.table is not None:
        print_("there is no classes.yaml: --write makes one, whose names you should change")
    print_("data:", "bold")
    print_(_yaml(look).rstrip())


def _percent(share: float) -> str:
    return f"{share:.2%}" if share < 0.1 else f"{share:.1%}"


def _section(look: Look) -> dict[str, Any]:
    """The section as it will be once ``--write`` has written its files."""
    section = dict(look.section)
    if look.table is not None:
        del section["classes"]
    if look.rows:
        section["pairs"] = str(Path(section["path"]) / "pairs.csv")
    return section


def _yaml(look: Look) -> str:
    from kdsweep.config import dump_yaml

    text = dump_yaml(_section(look))
    return "".join(f"  {line}\n" for line in text.splitlines())


def _write(look: Look, *, quiet: bool) -> None:
    from kdsweep.config import dump_yaml
    from kdsweep.data.look import write_rows

    root = Path(look.section["path"])
    files = {}
    if look.table is not None:
        files[root / "classes.yaml"] = dump_yaml(look.table)
    if look.rows:
        files[root / "pairs.csv"] = write_rows(look.rows)
    files[Path("data.yaml")] = f"data:\n{_yaml(look)}"
    there = [path for path in files if path.exists()]
    if there:
        raise ConfigError(
            f"{', '.join(map(str, there))}: there already, and nothing is overwritten",
            hint="move it away, or take --write away",
        )
    for path, text in files.items():
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
        if not quiet:
            print(f"wrote {path}")


def _as_json(look: Look) -> dict[str, Any]:
    health = look.health
    return {
        "path": str(health.data.source_path),
        "layout": look.layout,
        "fingerprint": getattr(health.data.identity, "fingerprint", None),
        "masks": look.values.modes,
        "classes": list(health.data.classes),
        "splits": {
            name: {
                "frames": split.num_frames,
                "shares": dict(zip(health.data.classes, split.shares_K.tolist(), strict=False)),
                "frames_with": dict(
                    zip(health.data.classes, split.frames_K.tolist(), strict=False)
                ),
                "void": split.void,
                "sizes": [[*size, count] for size, count in split.sizes.items()],
            }
            for name, split in health.splits.items()
        },
        "findings": [vars(finding) for finding in health.findings],
        "data": _section(look),
    }
