"""Names that others have chosen, of classes and files, in what commands print and write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cli_run import Run
from PIL import Image

from kdsweep.plain_text import markdown

CLASSES = r'names: ["ro\e[31mad\e]0;gone\a", "=1+1", "[red]car"]'


def test_a_terminal_obeys_no_name(kdsweep: Run, tmp_path: Path) -> None:
    root = tmp_path / "data"
    random = np.random.default_rng(0)
    for number in range(6):
        for folder, shape, most in (("images", (32, 32, 3), 255), ("labels", (32, 32), 3)):
            file = root / folder / f"a\x1b[2J\n{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, most, shape, np.uint8)).save(file)
    (root / "classes.yaml").write_text(CLASSES)
    done = kdsweep("data", root)
    assert "ro·[31mad·]0;go  " in done.stdout
    assert "[red]car" in done.stdout
    next((root / "images").iterdir()).write_bytes(b"no picture")
    broken = kdsweep("data", root)
    assert broken.returncode == 2
    assert "a·[2J" in broken.stdout + broken.stderr
    for text in (done.stdout, done.stderr, broken.stdout, broken.stderr):
        assert not {c for c in text if c != "\n" and not c.isprintable()}


def test_markdown_shows_names_as_they_are() -> None:
    assert markdown("a|b\n<img src=x>\x1b") == r"a\|b &lt;img src=x&gt;·"
