"""What other experiments say of this one: its confirmations, or the sweep that it confirms."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdsweep.ledger import Experiment
from kdsweep.plain_text import printable
from kdsweep.reporting import formats
from kdsweep.reporting.results import Results


@dataclass(frozen=True)
class Related:
    """Another experiment.

    Attributes:
        lead: What it is to this one.
        name: Its folder's name.
        address: Of its page, relative to this one's; ``None`` where it has no page.
        remark: Behind the name.
        lines: What it says.
    """

    lead: str
    name: str
    address: str | None
    remark: str = ""
    lines: Sequence[str] = ()


def related(results: Results, page: str, report: Path | None) -> list[Related]:
    """Return the experiments that confirm this one, and the one that it confirms."""
    summary, found = results.summary, []
    if summary.confirms is not None:
        source = Path(summary.confirms)
        address = _address(source, page, report)
        found.append(Related("These jobs were found by", source.name, address))
    for link in summary.confirmed_by:
        path = Path(link.experiment)
        remark = f"{link.remark}{formats.of_protocol(link.protocol)}"
        lines = [printable(claim.sentence) for claim in link.claims]
        if link.error is not None:
            lines.append(link.error)
        address = _address(path, page, report)
        if address is None and link.error is None:
            remark = f"{remark} (kdsweep report {formats.short_path(path)} draws its page)".strip()
        lead = "Trained again with fresh seeds, each beside its exact control, in"
        found.append(Related(lead, printable(path.name), address, remark, lines))
    return found


def _address(experiment: Path, page: str, report: Path | None) -> str | None:
    """Return its page's address from another experiment's report."""
    other = Experiment(experiment).report / page
    if report is None or not other.is_file():
        return None
    return Path(os.path.relpath(other, report.resolve())).as_posix()
