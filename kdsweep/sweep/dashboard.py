"""optuna-dashboard on the copy of a sweep's study, for looking only and on this machine only.

The copy is made anew in each session of the sweep, so a note or a deletion in the dashboard would
be gone at the next resume; it is refused instead. Each request opens the file for itself: one that
was kept open would go on showing what a resumed sweep has replaced.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import sqlite3
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from kdsweep.errors import ConfigError, ExperimentError
from kdsweep.ledger import Experiment

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

HOST = "127.0.0.1"
_LOCK_SECONDS = 20.0  # the sweep holds the file for milliseconds at a time

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Dashboard:
    """A dashboard that is ready to serve; a context manager.

    Args:
        experiment: The experiment's folder; its sweep may be running.
        port: Where to listen; 0 takes a free one.

    Attributes:
        address: What to open in a browser.

    Raises:
        ExperimentError: There is no such experiment, or it has no study to show.
        ConfigError: optuna-dashboard is not installed, or the port is in use.
    """

    def __init__(self, experiment: Path | str, port: int = 8080) -> None:
        opened = Experiment.open(experiment)
        _check_installed()
        storage, study_id = _open_study(opened.study_db)
        with warnings.catch_warnings():
            # Parts of it are experimental to their makers, and none is for a user to act on.
            warnings.simplefilter("ignore")
            from optuna_dashboard import wsgi

            app = wsgi(storage)
        self._server = _listen(_read_only(app), port)
        self.address = f"http://{HOST}:{self._server.server_port}/dashboard/studies/{study_id}"

    def serve(self) -> None:
        """Serve until Ctrl-C or :meth:`stop`."""
        with suppress(KeyboardInterrupt):
            self._server.serve_forever()

    def stop(self) -> None:
        """Let :meth:`serve`, which another thread is in, come back."""
        self._server.shutdown()

    def close(self) -> None:
        """Give the port back."""
        self._server.server_close()

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _check_installed() -> None:
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise ConfigError(
            "the dashboard needs the package optuna-dashboard, which is not installed",
            hint="pip install 'kdsweep[dashboard]'",
        )


def _open_study(path: Path) -> tuple[RDBStorage, int]:
    """The study's copy, opened anew for each look, and the study's number in it."""
    if not path.is_file():
        raise ExperimentError(
            f"{path}: there is no study to show yet; it is written when the first trial of the "
            "search has ended\n"
            f"  try:     kdsweep status {path.parent} shows what runs"
        )
    from optuna.storages import RDBStorage
    from sqlalchemy.pool import NullPool

    def connect() -> sqlite3.Connection:
        # Never makes a file that is not there, unlike SQLite's default.
        address = f"file:{quote(str(path))}?mode=rw"
        return sqlite3.connect(address, uri=True, timeout=_LOCK_SECONDS, check_same_thread=False)

    try:
        storage = RDBStorage(
            "sqlite://",
            engine_kwargs={"creator": connect, "poolclass": NullPool},
            skip_table_creation=True,
        )
        return storage, storage.get_all_studies()[0]._study_id
    except Exception as error:
        # SQLAlchemy, SQLite and Optuna each have errors of their own for files of other kinds.
        raise ExperimentError(
            f"{path}: the copy of the study cannot be read: {str(error).splitlines()[0]}\n"
            f"  try:     kdsweep resume {path.parent} makes it anew, if the sweep has work left; "
            f"kdsweep report {path.parent} does not need it"
        ) from error


def _read_only(app: WsgiApp) -> WsgiApp:
    """The app, with everything that would change the study refused."""

    def guarded(environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return app(environ, respond)
        reason = "this dashboard only shows: the sweep would overwrite changes when it is resumed"
        respond("405 Method Not Allowed", [("Content-Type", "application/json"), ("Allow", "GET")])
        return [json.dumps({"reason": reason}).encode()]

    return guarded


class _Server(ThreadingMixIn, WSGIServer):
    """Answers requests side by side; those under way do not hold up the end."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    """Writes no line for every request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _listen(app: WsgiApp, port: int) -> WSGIServer:
    try:
        return make_server(HOST, port, app, server_class=_Server, handler_class=_QuietHandler)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        problem = "in use" if error.errno == errno.EADDRINUSE else "not open to this user"
        raise ConfigError(
            f"port {port} on {HOST} is {problem}",
            hint="--port N takes another one, --port 0 any that is free",
        ) from error
