"""Draw what a terminal shows of a sweep, while it runs and at its end, from its ledger.

python docs/record_terminal.py experiments/latest docs/terminal.svg
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from kdsweep.ledger import Experiment
from kdsweep.ledger.file import read_ledger
from kdsweep.ledger.state import Sweep
from kdsweep.reporting import load
from kdsweep.reporting.verdict import verdict
from kdsweep.sweep.display import render

WIDTH = 100
SEEN = 0.6  # of the sweep's events


def main(experiment: Path, picture: Path) -> None:
    """Draw an experiment's terminal.

    Args:
        experiment: Its folder.
        picture: The SVG to write.
    """
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    folder = Experiment.open(experiment)
    events = read_ledger(folder.ledger)
    sweep = Sweep(events[: round(SEEN * len(events))])
    assert sweep.updated is not None
    answer = verdict(load(experiment))
    assert answer is not None
    console.print(Text(f"$ kdsweep run {sweep.header.name}", style="bold"))
    console.print(Text(f"experiment: experiments/{folder.path.name}"))
    console.print(render(sweep, sweep.updated, WIDTH))
    console.print(Text("\n   … a few minutes later\n", style="dim"))
    console.print(Text(answer.ship, style="bold"))
    console.print(Text(answer.teacher))
    console.print(Text("\nPage:   report/index.html (open it in a browser)"))
    drawn = console.export_svg(title="kdsweep")
    # A picture that is mailed should ask no network for its letters.
    picture.write_text(re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
