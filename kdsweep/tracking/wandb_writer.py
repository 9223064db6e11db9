"""Weights & Biases, from the side of the process that talks to it."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import wandb
from typing_extensions import override

from kdsweep.config.metrics import MIOU
from kdsweep.labels import VOID
from kdsweep.tracking.base import (
    DATA_FINGERPRINT,
    Host,
    RunWriter,
    SweepSummary,
    TrialDetails,
    columns_of,
    id_prefix,
    run_id,
)
from kdsweep.tracking.process import in_time, said

FINISH_SECONDS = 20.0
# Tables and pictures ask the server for permission first.
SHOW_SECONDS = 10.0
# For the end of wandb's own process.
TEARDOWN_SECONDS = 3.0

# What wandb shows for a run: it calls a run with this exit code "killed".
EXIT_CODES = {"complete": 0, "stopped": 0, "failed": 1, "interrupted": 255}


@dataclass(frozen=True)
class _Opened:
    """What a run was opened with, to open it again."""

    number: int | None
    name: str
    job: Mapping[str, Any]
    kind: str


class WandbWriter(RunWriter):
    """Writes wandb runs, one for each trial.

    Args:
        options: ``mode, project, entity, group, dir, init_seconds, agent``, and of the
            W&B sweep its configuration ``sweep``, its ``sweep_id`` if that is known, and
            ``sweep_begun``: whether an earlier process may have created it.
        host: The process. It is told the id of a ``sweep`` that was created.
    """

    def __init__(self, options: Mapping[str, Any], host: Host) -> None:
        super().__init__(options, host)
        self._mode: Literal["online", "offline"] = options["mode"]
        self._sweep_id: str | None = options.get("sweep_id")
        self._open: dict[int, tuple[Any, _Opened]] = {}
        self._best: dict[int, float] = {}

    @override
    def trial(
        self,
        number: int,
        name: str,
        job: Mapping[str, Any],
        kind: str,
        params: Mapping[str, Any],
    ) -> None:
        data = {key: params[key] for key in (DATA_FINGERPRINT,) if key in params}
        opened = _Opened(number, name, {**job, **data}, kind)
        self._open[number] = (self._start(opened), opened)

    @override
    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        run, _ = self._open[number]
        # With a step of one's own, wandb holds a row back until the next one comes unless told so.
        run.log({"epoch": epoch, **metrics}, step=epoch, commit=True)
        value = metrics.get(MIOU, math.nan)
        if value > self._best.get(number, -math.inf):
            self._best[number] = value
            run.summary.update({f"best/{MIOU}": value, "best/epoch": epoch})

    @override
    def alert(self, number: int, text: str) -> None:
        run, opened = self._open[number]
        run.alert(title=opened.name, text=text, level="WARN")

    @override
    def trial_end(
        self, number: int, state: str, summary: Mapping[str, Any], details: TrialDetails | None
    ) -> None:
        run, opened = self._open.pop(number)
        if details is not None:
            run = self._show(run, opened, lambda to: self._log_details(to, details))
        run.summary.update({**summary, "state": state})
        self._finish(run, EXIT_CODES.get(state, 1))

    @override
    def summary(self, name: str, summary: SweepSummary) -> None:
        opened = _Opened(None, name, {}, "sweep")
        run = self._start(opened)
        run = self._show(run, opened, lambda to: self._log_tables(to, summary))
        run.summary.update(summary.facts)
        self._finish(run, 0)

    @override
    def forget(self, number: int) -> None:
        self._open.pop(number, None)

    def close(self) -> None:
        """End wandb's own process."""
        self._teardown()

    # -- runs ------------------------------------------------------------------------------------

    def _start(self, opened: _Opened) -> Any:
        """A new run; on the disk if the server does not answer."""
        try:
            self._create_sweep()
            return self._in_time(lambda: self._init(opened), self.options["init_seconds"] + 5.0)
        except Exception as error:
            if self._mode != "online":
                raise
            self._go_offline(error)
            return self._init(opened)

    def _create_sweep(self) -> None:
        """Create the W&B sweep before its first run, once."""
        config, self.options["sweep"] = self.options.get("sweep"), None
        if config is None or self._sweep_id is not None or self._mode != "online":
            return
        place = {"project": self.options["project"], "entity": self.options["entity"]}
        errors = wandb.errors

        def find_or_create() -> str:
            found = self._find_sweep(config["name"]) if self.options["sweep_begun"] else None
            return found or wandb.sweep(config, **place)

        try:
            self._sweep_id = self._in_time(find_or_create, self.options["init_seconds"])
        except (errors.AuthenticationError, errors.UsageError, TimeoutError):
            raise  # no server, or no account: runs have no better chance
        except Exception as error:
            self.host.warn(f"{said(error)}; runs are sent, but belong to no sweep")
            return
        self.host.tell("sweep", self._sweep_id)

    def _find_sweep(self, name: str) -> str | None:
        """The id of the sweep that was created under a name.

        Raises:
            LookupError: The server could not be asked, so nobody knows.
        """
        errors = wandb.errors
        options = self.options
        try:
            project = wandb.Api().project(options["project"], options["entity"])
            # All of them: only new servers filter sweeps by name.
            listed = project.sweeps(per_page=100)
            # The items of this list ask the server once more for each sweep; the page that they
            # are made of says enough.
            listed.convert_objects = lambda: _listed_sweeps(listed.last_response)
            return next((sweep.name for sweep in listed if _name_in(sweep.config) == name), None)
        except (errors.AuthenticationError, errors.UsageError):
            raise
        except Exception as error:
            raise LookupError(
                "an earlier session may have created the W&B sweep, and it cannot be looked up: "
                + said(error)
            ) from error

    def _init(self, opened: _Opened) -> Any:
        options = self.options
        number = opened.number
        own: dict[str, Any] = {
            "project": options["project"],
            "entity": options["entity"],
            "group": options["group"],
            "job_type": opened.kind,
            "id": run_id(options["group"], number),
            "resume": "allow",
        }
        if options["agent"]:
            # The agent's environment says which run of which sweep this is.
            own = {}
        run = wandb.init(
            mode=self._mode,
            dir=options["dir"],
            name=opened.name,
            config=dict(opened.job),
            reinit="create_new",
            settings=self._settings(None if number is None else self._sweep_id),
            **own,
        )
        run.define_metric("epoch")
        if number is not None:
            run.define_metric("*", step_metric="epoch")
        return run

    def _settings(self, sweep_id: str | None) -> Any:
        """All that is not asked for turned off; older versions do not know all of it."""
        wanted: dict[str, Any] = {
            "console": "off",
            "silent": True,
            "disable_code": True,
            "disable_git": True,
            "save_code": False,
            "x_disable_machine_info": True,
            "x_disable_meta": True,
            "x_disable_stats": True,
            "x_save_requirements": False,
            "init_timeout": self.options["init_seconds"],
            "finish_timeout": FINISH_SECONDS,
            "finish_timeout_raises": True,
        }
        if sweep_id is not None:
            wanted["sweep_id"] = sweep_id
        known = wandb.Settings.model_fields
        return wandb.Settings(**{k: v for k, v in wanted.items() if k in known})

    def _finish(self, run: Any, exit_code: int) -> None:
        try:
            self._in_time(lambda: run.finish(exit_code=exit_code), FINISH_SECONDS + 1.0)
        except TimeoutError as error:
            if self._mode == "online":
                self._go_offline(error)
            return
        if self._mode == "online":
            mark_sent(run)

    def _go_offline(self, error: Exception) -> None:
        """The server does not answer: keep what there is, and write to the disk from now on."""
        self._mode = "offline"
        self.host.warn(
            f"{said(error)}; what is not sent is kept on the disk, "
            f"send it with: kdsweep wandb sync {self.options['dir']}"
        )
        # wandb's service holds on to the id of a run, also of one that could not be opened, until
        # it ends. Open runs go on under their id in a folder of their own; a sync joins the two.
        self._teardown()
        for number, (_, opened) in list(self._open.items()):
            self._open[number] = (self._init(opened), opened)

    def _teardown(self) -> None:
        """End wandb's own process, or leave it behind.

        It waits for the server as long as it takes, and has rows in its memory that are not in its
        file yet. It writes them when it finds this process gone, and then it goes too.
        """

        def work() -> None:
            # It exits the interpreter when the process did not end well.
            with contextlib.suppress(Exception, SystemExit):
                wandb.teardown(exit_code=EXIT_CODES["interrupted"])

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(TEARDOWN_SECONDS)

    # -- tables and pictures ---------------------------------------------------------------------

    def _show(self, run: Any, opened: _Opened, log: Callable[[Any], None]) -> Any:
        """Log tables or pictures, which ask the server, without waiting for it for ever.

        Returns:
            The run to go on with: another one if the server did not answer.
        """
        try:
            self._in_time(lambda: log(run), SHOW_SECONDS)
        except TimeoutError as error:
            if self._mode != "online":
                raise
            self._go_offline(error)
            run = self._init(opened)
            log(run)
        except Exception as error:
            self.host.warn(f"{said(error)}; tables and pictures of the run {opened.name} are lost")
        return run

    def _log_details(self, run: Any, details: TrialDetails) -> None:
        row: dict[str, Any] = {}
        classes = details.class_rows()
        if classes:
            row["classes"] = _table(classes)
        pictures = [
            _picture(frame, files, details)
            for frame, files in details.frames.items()
            if "image" in files
        ]
        if pictures:
            row["samples"] = pictures
        if row:
            # Behind the last epoch: a step that was sent cannot be added to.
            run.log({"epoch": details.epochs, **row}, step=details.epochs + 1, commit=True)

    def _log_tables(self, run: Any, summary: SweepSummary) -> None:
        tables = {name: _table(rows) for name, rows in summary.tables.items() if rows}
        if tables:
            run.log(tables, step=summary.session, commit=True)
        if summary.page is not None:
            page = wandb.Artifact(f"{id_prefix(self.options['group'])}-report", type="report")
            page.add_file(str(summary.page))
            run.log_artifact(page)

    def _in_time(self, action: Callable[[], Any], seconds: float) -> Any:
        """Return what an action returns, if it does so in time; offline nothing is waited for."""
        return action() if self._mode != "online" else in_time(action, seconds, self.host)


def _table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a table with every key as a column; a key that a row has not is missing there."""
    columns = columns_of(rows)
    data = [[row.get(column) for column in columns] for row in rows]
    # Cells of a column may be of several kinds: a range may hold numbers and texts.
    return wandb.Table(columns=columns, data=data, allow_mixed_types=True)


def _picture(frame: int, files: Mapping[str, Path], details: TrialDetails) -> Any:
    import numpy as np
    from PIL import Image

    labels = {**dict(enumerate(details.classes)), VOID: "void"}
    masks = {
        what: {"mask_data": np.asarray(Image.open(path)), "class_labels": labels}
        for what, path in files.items()
        if what != "image"
    }
    caption = f"frame {frame}, epoch {details.best_epoch}"
    return wandb.Image(str(files["image"]), masks=masks or None, caption=caption)


def _listed_sweeps(page: Any) -> list[Any]:
    """The sweeps on one page of a list."""
    if page.project is None or page.project.sweeps is None:
        raise StopIteration  # a project without runs and sweeps does not exist yet
    return [edge.node for edge in page.project.sweeps.edges]


def _name_in(config: str) -> str | None:
    """The name in a sweep's configuration, which stays when a user renames the sweep."""
    from ruamel.yaml import YAML

    read = YAML(typ="safe").load(config)
    return read.get("name") if isinstance(read, dict) else None


def mark_sent(run: Any) -> None:
    """Note that all of a run is at the server, as ``wandb sync`` notes it."""
    folder = Path(run.dir).parent
    for file in folder.glob("*.wandb"):
        file.with_name(f"{file.name}.synced").touch()
