"""The search spaces that come with kdsweep, by name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kdsweep.errors import ConfigError

_PACKAGE = Path(__file__).parents[1]
# Inside the package where it was installed from a wheel; beside it in a checkout.
_FOLDERS = (_PACKAGE / "search_spaces", _PACKAGE.parent / "search_spaces")
_COST = "Cost: "


@dataclass(frozen=True)
class ShippedSpace:
    """One of them.

    Attributes:
        name: Its name, which is that of its file.
        path: Its file.
        question: What it is to find out.
        cost: What it takes.
    """

    name: str
    path: Path
    question: str
    cost: str


def shipped_files() -> dict[str, Path]:
    """Return the files by name, none of them read."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def shipped_spaces() -> list[ShippedSpace]:
    """Return all of them, with what stands at the head of their files."""
    return [_read(name, path) for name, path in shipped_files().items()]


def shipped_file(name: str) -> Path:
    """Return the file of one.

    Raises:
        ConfigError: None is called so.
    """
    files = shipped_files()
    if name not in files:
        raise ConfigError("no search space that comes with kdsweep", value=name, allowed=files)
    return files[name]


def file_meant(path: Path) -> Path:
    """Return ``path``, or the file that it names without saying where.

    A file that is there goes before a shipped space, with and without ``.yaml``: who has copied
    one means the copy.
    """
    name = str(path)
    # os.path answers for texts that are no names of files, too.
    if os.path.exists(path) or name != path.stem:
        return path
    beside = Path(f"{name}.yaml")
    return beside if os.path.isfile(beside) else shipped_files().get(name, path)


def _read(name: str, path: Path) -> ShippedSpace:
    head, _, _ = path.read_text(encoding="utf-8").partition("\n\n")
    paragraphs = [
        " ".join(line.removeprefix("#").strip() for line in paragraph.split("\n"))
        for paragraph in head.split("\n#\n")
    ]
    cost = next((text for text in paragraphs if text.startswith(_COST)), "")
    return ShippedSpace(name, path, paragraphs[0], cost.removeprefix(_COST))
