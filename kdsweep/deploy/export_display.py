"""An export on the terminal. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kdsweep.deploy.tables import ends, milliseconds, plain_table, score
from kdsweep.plain_text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from kdsweep.deploy.export import Exported


def show_export(exported: Exported, model: Path, console: Console) -> None:
    """Say what was exported, to which file, and how it did."""
    check, written = exported.check, exported.written

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    say(f"Exported: {model} ({written.file_mb:.3g} MB, with MODEL_CARD.md)")
    frames = counted(check.num_frames, "validation frame")
    say(f"Checked on {frames}; one frame timed on {check.latency.place}:")
    table = plain_table(
        ("", "left"), "same class", "mIoU", ("95 %", "left"), "median", "95th percentile"
    )
    exported_in = "exported" if check.runtime == "PyTorch" else f"in {check.runtime}"
    rows = (
        ("in PyTorch", "", check.miou_before, check.latency_before),
        (exported_in, f"{check.agreement:.3%}", check.miou, check.latency),
    )
    for name, agreement, miou, latency in rows:
        table.add_row(
            name,
            agreement,
            score(miou.value, 4),
            ends(miou, 4),
            milliseconds(latency.p50_ms),
            milliseconds(latency.p95_ms),
        )
    console.print(table)
    if written.fixed_size:
        say(f"It takes one image size only: {written.fixed_size}")
