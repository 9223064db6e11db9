"""MLflow: a run for each trial, on a tracking server or in a database of the experiment's own."""

from __future__ import annotations

import csv
import io
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from kdsweep.config import dump_yaml
from kdsweep.tracking.base import Host, RunWriter, SweepSummary, TrialDetails, columns_of, run_id
from kdsweep.tracking.pictures import rows_of

STATUS = {"complete": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
_RUN = "kdsweep.run"  # the tag by which a later session finds a run again


class MlflowWriter(RunWriter):
    """Writes MLflow runs.

    Args:
        options: ``dir``, ``group``, ``uri`` and ``experiment``.
    """

    def __init__(self, options: Mapping[str, Any], host: Host) -> None:
        super().__init__(options, host)
        # MLflow tells its makers how it is used.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        folder = Path(options["dir"]).absolute()
        uri = options["uri"] or os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None:
            folder.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{folder / 'mlflow.db'}"
        self._client = MlflowClient(uri)
        self._runs: dict[int, str] = {}
        self._experiment = self._open_experiment(
            options["experiment"] or options["group"],
            # A server has a place for files; a database alone would put them where we stand.
            None if uri.startswith("http") else (folder / "artifacts").as_uri(),
        )

    @override
    def trial(
        self,
        number: int,
        name: str,
        job: Mapping[str, Any],
        kind: str,
        params: Mapping[str, Any],
    ) -> None:
        from mlflow.entities import Param

        run, is_new = self._open(run_id(self.options["group"], number), name, kind)
        self._runs[number] = run
        if is_new:
            shown = [Param(plain_key(key), str(value)) for key, value in params.items()]
            self._client.log_batch(run, params=shown)
            self._client.log_text(run, dump_yaml(job), "job.yaml")

    @override
    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        self._log(self._runs[number], metrics, epoch)

    @override
    def trial_end(
        self, number: int, state: str, summary: Mapping[str, Any], details: TrialDetails | None
    ) -> None:
        run = self._runs.pop(number)
        numbers = {key: value for key, value in summary.items() if isinstance(value, int | float)}
        self._log(run, numbers, 0 if details is None else details.best_epoch)
        if details is not None:
            classes = details.class_rows()
            if classes:
                self._client.log_text(run, csv_text(classes), "classes.csv")
            for frame, picture in rows_of(details):
                self._client.log_image(run, picture, f"samples/{frame:05d}.png")
        self._client.set_tag(run, "kdsweep.state", state)
        self._client.set_terminated(run, STATUS.get(state, "KILLED"))

    @override
    def summary(self, name: str, summary: SweepSummary) -> None:
        run, _ = self._open(run_id(self.options["group"], None), name, "sweep")
        for key, value in summary.facts.items():
            self._client.set_tag(run, f"kdsweep.{plain_key(key)}", str(value))
        for title, rows in summary.tables.items():
            if rows:
                self._client.log_text(run, csv_text(rows), f"tables/{title}.csv")
        if summary.page is not None:
            self._client.log_artifact(run, str(summary.page), "report")
        self._client.set_terminated(run)

    @override
    def forget(self, number: int) -> None:
        self._runs.pop(number, None)

    def _open_experiment(self, name: str, place: str | None) -> str:
        from mlflow.exceptions import MlflowException

        known = self._client.get_experiment_by_name(name)
        if known is None:
            try:
                return str(self._client.create_experiment(name, place))
            except MlflowException:  # another sweep may have been faster
                known = self._client.get_experiment_by_name(name)
                if known is None:
                    raise
        return str(known.experiment_id)

    def _open(self, identity: str, name: str, kind: str) -> tuple[str, bool]:
        """The run of an identity, and whether it was not there before."""
        where = f"tags.`{_RUN}` = '{identity}'"
        found = self._client.search_runs([self._experiment], where, max_results=1)
        if found:
            run = str(found[0].info.run_id)
            self._client.update_run(run, status="RUNNING")
            return run, False
        tags = {_RUN: identity, "kdsweep.sweep": self.options["group"], "kdsweep.kind": kind}
        made = self._client.create_run(self._experiment, tags=tags, run_name=name)
        return str(made.info.run_id), True

    def _log(self, run: str, numbers: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(
            run,
            [
                Metric(plain_key(key), float(value), now, step)
                for key, value in numbers.items()
                if math.isfinite(value)
            ],
        )


def plain_key(key: str) -> str:
    """Return a key with only what MLflow allows in one: ``distill[1].hint`` is ``distill.1.hint``.

    Letters, digits, ``_-. :/`` are allowed.
    """
    return re.sub(r"[^\w\-. :/]", "_", re.sub(r"\[(\d+)\]", r".\1", key), flags=re.ASCII)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV, which MLflow shows as a table, with every key as a column."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
