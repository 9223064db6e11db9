"""TensorBoard: a folder of event files for each trial, below the experiment's own."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from kdsweep.config import dump_yaml
from kdsweep.tracking.base import Host, RunWriter, SweepSummary, TrialDetails, columns_of
from kdsweep.tracking.pictures import rows_of


class TensorboardWriter(RunWriter):
    """Writes event files; a run that goes on gets a further file in its folder.

    Args:
        options: ``dir`` and ``group``.
    """

    def __init__(self, options: Mapping[str, Any], host: Host) -> None:
        super().__init__(options, host)
        # The writer would load torch for tensors that nobody gives it: two seconds and its memory.
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
        import tensorboardX

        self._tensorboardx = tensorboardX
        self._runs: dict[int, Any] = {}

    @override
    def trial(
        self,
        number: int,
        name: str,
        job: Mapping[str, Any],
        kind: str,
        params: Mapping[str, Any],
    ) -> None:
        known = sorted(self._folder.glob(f"{number:04d}-*"))
        plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-")
        run = self._runs[number] = self._open(known[0] if known else self._folder / plain)
        if not known:
            run.add_text("job", f"```yaml\n{dump_yaml(job)}```")
            run.add_text("kind", kind)
            # Without a declaration of all settings TensorBoard gathers them from the runs; it
            # could only name those of one trial, and others of a conditional space have more.
            _, begin, _ = self._tensorboardx.summary.hparams(dict(params), {})
            run.file_writer.add_summary(begin)
        run.flush()

    @override
    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        run = self._runs[number]
        for key, value in metrics.items():
            run.add_scalar(key, value, epoch)
        run.flush()  # else it is kept for two minutes

    @override
    def trial_end(
        self, number: int, state: str, summary: Mapping[str, Any], details: TrialDetails | None
    ) -> None:
        run = self._runs.pop(number)
        run.add_text("state", state)
        step = None if details is None else details.best_epoch
        for key, value in summary.items():
            if isinstance(value, int | float):
                run.add_scalar(key, value, step)
        if details is not None:
            classes = details.class_rows()
            if classes:
                run.add_text("classes", markdown(classes), step)
            for frame, picture in rows_of(details):
                import numpy as np

                run.add_image(f"samples/{frame}", np.asarray(picture), step, dataformats="HWC")
        if state in ("complete", "stopped"):
            _, _, end = self._tensorboardx.summary.hparams({}, {})
            run.file_writer.add_summary(end)
        run.close()

    @override
    def summary(self, name: str, summary: SweepSummary) -> None:
        run = self._open(self._folder / "sweep")
        facts = [{"what": key, "found": value} for key, value in summary.facts.items()]
        for title, rows in {"facts": facts, **summary.tables}.items():
            if rows:
                run.add_text(title, markdown(rows), summary.session)
        run.close()

    @override
    def forget(self, number: int) -> None:
        run = self._runs.pop(number, None)
        if run is not None:
            run.close()

    @property
    def _folder(self) -> Path:
        return Path(self.options["dir"])

    def _open(self, folder: Path) -> Any:
        return self._tensorboardx.SummaryWriter(str(folder), write_to_disk=True)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a table, with every key as a column."""
    columns = columns_of(rows)

    def line(cells: Sequence[Any]) -> str:
        texts = ["" if cell is None else _text(cell).replace("|", r"\|") for cell in cells]
        return f"| {' | '.join(texts)} |"

    body = [line([row.get(column) for column in columns]) for row in rows]
    return "\n".join([line(columns), f"|{'---|' * len(columns)}", *body])


def _text(cell: Any) -> str:
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)
