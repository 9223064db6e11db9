"""``docs/commands.md`` follows the command line."""

from __future__ import annotations

from pathlib import Path

from cli_run import Run

from kdsweep.cli.commands import as_markdown

ROOT = Path(__file__).parent.parent


def test_the_list_of_commands_is_up_to_date() -> None:
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == as_markdown(), (
        "run: python -m kdsweep.cli.commands docs/commands.md"
    )


def test_it_has_what_help_has(kdsweep: Run) -> None:
    text = as_markdown()
    for command in ("init", "confirm", "wandb sync"):
        section = text.partition(f"\n## kdsweep {command}\n")[2].partition("\n## ")[0]
        shown = kdsweep(*command.split(), "--help").stdout
        flags = {word for word in shown.replace("│", " ").split() if word.startswith("--")}
        assert len(flags) > 1
        for flag in flags - {"--help"}:
            assert flag.rstrip(",.") in section
