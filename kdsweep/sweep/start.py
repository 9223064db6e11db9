"""The start of a sweep on a machine: its checks, Ray, the first worker; each stage is shown."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from threading import Thread

from kdsweep.config import JobList, Space, distinct_data
from kdsweep.errors import ConfigError, MachineError
from kdsweep.pulse import Beat
from kdsweep.sweep.machine import check_folder, check_machine
from kdsweep.sweep.progress import Progress
from kdsweep.sweep.ray import bridge, cluster
from kdsweep.sweep.signals import Interruption
from kdsweep.sweep.stages import Stages


class Start:
    """Brings Ray up for a session.

    Args:
        interruption: Tells of signals.
        progress, address, shared, folder, dashboard, listen: As for a session.

    Attributes:
        stages: Times the stages; those of the workers too.
    """

    def __init__(
        self,
        progress: Progress,
        interruption: Interruption,
        address: str | None,
        shared: Path,
        folder: Path,
        *,
        dashboard: bool,
        listen: bool = False,
    ) -> None:
        self.stages = Stages(progress)
        self._progress = progress
        self._interruption = interruption
        self._address = address
        self._shared = shared
        self._folder = folder
        self._dashboard = dashboard
        self._listen = listen
        self._nicer: set[str] = set()
        self._no_worker_since: float | None = None

    def connect(self, stack: ExitStack, space: Space | JobList, *, is_new: bool) -> cluster.Cluster:
        """Look at this machine, then start Ray on it or join a cluster.

        Args:
            stack: Ends what was started.
            space: What is to be searched.
            is_new: Whether its data are looked for first.

        Raises:
            StartInterruptedError: A signal came.
        """
        address = cluster.address_to_join(self._address)
        self.stages.begin("checks")
        if address is not None:
            if self._listen:
                self._progress.note(
                    f"warning: --listen opens a Ray that kdsweep starts; the one at {address} "
                    "listens where it was told to"
                )
            check_folder(self._folder, "the experiment's folder", "--out FOLDER")
            connecting = cluster.join(address, self._shared, leave=self.is_leaving)
        else:
            data = distinct_data(space.jobs_to_check())
            caches = {Path(config.cache).expanduser() for config in data if config.cache}
            machine = check_machine(self._folder, caches)
            for note in machine.notes:
                self._progress.note(note)
            if is_new:
                _look_for_data(space)
            connecting = cluster.start(
                machine, dashboard=self._dashboard, listen=self._listen, leave=self.is_leaving
            )
        self.stages.begin("Ray")
        if address is not None:
            # `ray start` asks for a token as soon as there is one; who joins has to say that it
            # shows one, before Ray is imported.
            stack.enter_context(bridge.environment(**bridge.token_mode()))
        importing = Thread(target=import_module, args=["kdsweep.sweep.ray.tune"], daemon=True)
        importing.start()
        joined = stack.enter_context(connecting)
        if not joined.is_own and "UV_RUN_RECURSION_DEPTH" in os.environ:
            self._progress.note(
                "machines:   `uv run` does not reach the workers of a cluster: each machine trains "
                "with the Python that its Ray was started with"
            )
        # Ray has handlers of its own.
        self._interruption.install()
        importing.join()
        # Workers of a cluster that others use may have to wait for them.
        self._no_worker_since = time.monotonic() if joined.is_own else None
        return joined

    def look_at_worker(self, host: str, niceness: int) -> None:
        """Say where the machine's other work goes before the training."""
        self._no_worker_since = None
        if niceness > os.nice(0) and host not in self._nicer:
            self._nicer.add(host)
            self._progress.note(
                f"warning: workers on {host} run at niceness {niceness} (this process: "
                f"{os.nice(0)}): all other work there goes first\n"
                "  try:     RAY_worker_niceness=0 ray start …, on each machine of the cluster"
            )

    def tick(self, beat: Beat | None = None) -> None:
        """Show that the start goes on; called about ten times a second.

        Args:
            beat: How far the worker is that checks and prepares.

        Raises:
            MachineError: Ray is up, but does not start a worker.
        """
        self.stages.tick(beat)
        if self._no_worker_since is not None:
            waited = time.monotonic() - self._no_worker_since
            if waited > cluster.START_SECONDS:
                raise MachineError(
                    f"Ray is up, but has started no worker in {waited:.0f} s\n"
                    "  try:     a higher ulimit -u, more free memory, less other work here"
                )

    def is_leaving(self) -> bool:
        """Show that the start goes on; return whether a signal says to leave."""
        self.stages.tick()
        return self._interruption.reason is not None


def _look_for_data(space: Space | JobList) -> None:
    """Refuse data that are not there before Ray takes its seconds to start.

    On a cluster the data may lie where only its workers see them.
    """
    from kdsweep.data import count_frames

    try:
        for config in distinct_data(space.jobs_to_check()):
            count_frames(config)
    except ConfigError as error:
        raise space.locate(error) from None
