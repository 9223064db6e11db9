"""The README's commands and links are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from kdsweep.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for address in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        file, _, anchor = address.partition("#")
        if "://" in file:
            continue
        target = page.parent / file if file else page
        assert target.exists(), address
        if anchor and target.suffix == ".md":
            heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in slugs, address


def test_its_commands_are_commands() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    called = [part for line in lines for part in line.split("&&") if "kdsweep " in part]
    parsed = [shlex.split(part, comments=True) for part in called]
    used = [words for words in parsed if words[0] == "kdsweep"]
    assert len(used) > 8
    for words in used:
        command = commands[words[1]]
        known = {name for one in command.params for name in one.opts}
        flags = {word for word in words[2:] if word.startswith("--")}
        assert flags <= known, words


def test_installing_is_told_for_cpus_too() -> None:
    (line,) = [line for line in README.splitlines() if "download.pytorch.org/whl/cpu" in line]
    assert {"torch", "torchvision", "--index-url"} <= set(line.split())
