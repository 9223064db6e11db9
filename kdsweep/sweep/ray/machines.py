"""The machines of a sweep, which may come and go while it runs.

Ray on this machine alone stays as it is. In a cluster that was joined each machine is looked at
before it gets a trial (:mod:`kdsweep.sweep.ray.survey`), and the number of trials at a time follows
the machines that there are.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from kdsweep.config.sweep import ResourcesConfig
from kdsweep.errors import MachineError, ResourceError
from kdsweep.sweep.ray.cluster import Cluster, nodes_there
from kdsweep.sweep.ray.start import StartInterruptedError
from kdsweep.sweep.ray.survey import PATIENCE_SECONDS, Seen, Survey, Word, left_out
from kdsweep.sweep.resources import Node, Plan, plan, slots_of

WAIT_SECONDS = 600.0
_LOOK_SECONDS = 5.0
_POLL_SECONDS = 0.1


class Machines:
    """Which machines trials run on.

    Args:
        cluster: The Ray that this process is connected to.
        runner: Module that holds ``prepare``.
        jobs: Jobs that together show all data, as JSON.
        config: What a trial gets.
        max_concurrent: Trials at a time, if the space limits them.
        note: Told which machines come, go, or get no trials.
        on_wait: Called about ten times a second while nothing can start; returns whether to leave.

    Attributes:
        plan: What runs at a time, on the machines of the moment.
    """

    def __init__(
        self,
        cluster: Cluster,
        runner: str,
        jobs: Sequence[dict[str, Any]],
        config: ResourcesConfig,
        max_concurrent: int | None,
        note: Callable[[str], None],
        on_wait: Callable[[], bool],
    ) -> None:
        self._config, self._most = config, max_concurrent
        self._note, self._on_wait = note, on_wait
        self._usable: dict[str, Node] = {}
        self._next_look = 0.0
        self._none_since: float | None = None
        if cluster.is_own:
            self.word = None
            self._survey = None
            self.plan = plan(cluster.nodes, config, max_concurrent)
            return
        self.word = Word.leave(cluster.scratch)
        self._survey = Survey(self.word, runner, jobs)
        self.plan = self._first_plan()
        self._tell_of_folder()

    @property
    def avoided(self) -> list[str]:
        """Ids of machines that get no trial."""
        seen = [] if self._survey is None else self._survey.seen.values()
        return sorted(s.node.id for s in seen if s.problem is not None)

    @property
    def gpus(self) -> dict[str, list[str]]:
        """What GPUs there are on each machine that was looked at."""
        seen = [] if self._survey is None else self._survey.seen.values()
        return {s.node.name: list(s.gpus) for s in seen if s.problem is None}

    def follow(self) -> bool:
        """Take note of machines that came or went; return whether the plan has changed.

        Raises:
            MachineError: There has been none for too long.
        """
        now = time.monotonic()
        if self._survey is None or now < self._next_look:
            return False
        self._next_look = now + _LOOK_SECONDS
        there = {node.id: node for node in nodes_there()}
        self._survey.ask(there.values())
        left_out(self._survey.collect(), self._note)
        seen = self._survey.seen
        usable = {i: n for i, n in there.items() if i in seen and seen[i].problem is None}
        if usable.keys() == self._usable.keys():
            self._check_patience(now)
            return False
        come = [node.name for i, node in usable.items() if i not in self._usable]
        gone = [node.name for i, node in self._usable.items() if i not in usable]
        self._usable = usable
        cpus, gpus = self.plan.cpus_per_trial, self.plan.gpus_per_trial
        slots = slots_of(list(usable.values()), cpus, gpus, self._most)
        told = [
            f"{names} {what}"
            for names, what in ((", ".join(come), "joined"), (", ".join(gone), "left"))
            if names
        ]
        self._note(f"machines:   {'; '.join(told)}; {slots} trials at a time")
        self.plan = replace(self.plan, slots=slots)
        self._check_patience(now)
        return True

    def leave_out(self, node: str, problem: str) -> bool:
        """Give no more trials to a machine, if there are others.

        Args:
            node: Its id.
            problem: Its name, and what is wrong with it.

        Returns:
            Whether that was possible.
        """
        seen = None if self._survey is None else self._survey.seen.get(node)
        if self._survey is None or seen is None:
            return False
        if seen.problem is None:
            if not self._usable.keys() - {node}:
                return False
            self._survey.seen[node] = replace(seen, problem=problem)
            self._note(f"machines:   {problem}: it gets no more trials")
            self._next_look = 0.0
        return True

    def _check_patience(self, now: float) -> None:
        if self.plan.slots > 0:
            self._none_since = None
        elif self._none_since is None:
            self._none_since = now
        elif now - self._none_since > WAIT_SECONDS:
            raise MachineError(
                f"no machine of the cluster has room for a trial, for {WAIT_SECONDS / 60:.0f} "
                "minutes now"
            )

    def _first_plan(self) -> Plan:
        """Wait until a trial fits on a machine that has what it needs."""
        assert self._survey is not None
        began = time.monotonic()
        waiting_since = None
        while True:
            there = nodes_there()
            self._survey.ask(there)
            while self._survey.is_waiting:
                found = self._survey.collect()
                if time.monotonic() - began > PATIENCE_SECONDS:
                    found = self._survey.give_up()
                left_out(found, self._note)
                self._pause()
            seen = self._survey.seen
            usable = [n for n in there if seen[n.id].problem is None]
            try:
                found_plan = plan(usable, self._config, self._most)
            except ResourceError:
                if waiting_since is not None and time.monotonic() - waiting_since > WAIT_SECONDS:
                    raise
                self._refuse_if_hopeless(there)
                if waiting_since is None:
                    waiting_since = time.monotonic()
                    self._note(
                        f"machines:   no room for a trial yet; waiting up to "
                        f"{WAIT_SECONDS / 60:.0f} minutes for machines"
                    )
                    _ask_autoscaler(self._config)
                self._pause()
                continue
            self._usable = {node.id: node for node in usable}
            return found_plan

    def _refuse_if_hopeless(self, there: Sequence[Node]) -> None:
        assert self._survey is not None
        problems = [
            s for s in self._survey.seen.values() if s.problem is not None and s.node in there
        ]
        if problems and len(problems) == len([n for n in there if n.cpus > 0]):
            raise MachineError(
                "no machine of the cluster can train a trial\n"
                + "".join(f"  {s.node.name}: {s.problem}\n" for s in problems)
                + "  try:     what is missing there; kdsweep, its packages and the data have to be "
                "the same on all machines"
            )

    def _pause(self) -> None:
        if self._on_wait():
            raise StartInterruptedError
        time.sleep(_POLL_SECONDS)

    def _seen_usable(self) -> list[Seen]:
        return [] if self._survey is None else [self._survey.seen[i] for i in self._usable]

    def _tell_of_folder(self) -> None:
        apart = sorted(s.node.name for s in self._seen_usable() if not s.shares_folder)
        num = len(self._usable)
        if not apart:
            self._note(f"storage:    the experiment's folder, which {num} of {num} machines see")
            return
        self._note(
            f"storage:    {', '.join(apart)} {'does' if len(apart) == 1 else 'do'} not see the "
            "experiment's folder; Ray brings weights, checkpoints and logs here after each epoch"
        )


def _ask_autoscaler(config: ResourcesConfig) -> None:
    """Tell an autoscaler what is missing; nothing waits for it otherwise."""
    wanted = {"CPU": float(config.cpus_per_trial or 1)}
    with contextlib.suppress(Exception):  # there may be none
        from ray.autoscaler.sdk import request_resources

        request_resources(bundles=[wanted])
