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


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_its_commands_are_commands(page: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    called = [part for line in lines for part in re.split(r"&& | -- ", line) if "kdsweep" in part]
    used = [w for part in called if (w := shlex.split(part, comments=True))[:1] == ["kdsweep"]]
    for words in used:
        group, name, *rest = commands, *words[1:]
        while name in group and hasattr(group[name], "commands"):
            group, (name, *rest) = group[name].commands, rest
        known = {
            option for one in group[name].params for option in (*one.opts, *one.secondary_opts)
        }
        flags = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert flags <= {*known, "--help"}, words
    assert len(used) > 8 or page != PAGES[0]


def test_installing_is_told_for_cpus_too() -> None:
    (line,) = [line for line in README.splitlines() if "download.pytorch.org/whl/cpu" in line]
    assert {"torch", "torchvision", "--index-url"} <= set(line.split())
