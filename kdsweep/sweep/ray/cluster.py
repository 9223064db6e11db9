"""Ray for the length of a sweep: a cluster of our own, or one that is running already."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdsweep.errors import MachineError
from kdsweep.sweep.machine import Machine
from kdsweep.sweep.ray import bridge
from kdsweep.sweep.ray.orphans import ended_with_driver, mark
from kdsweep.sweep.ray.places import PREFIX, temporary_folder
from kdsweep.sweep.ray.start import RayThread, disconnect
from kdsweep.sweep.resources import Node

# A start takes 3 to 6 seconds; a machine with a cold disk and other work has needed minutes.
START_SECONDS = 300.0
JOIN_SECONDS = 60.0
_KNOCK_SECONDS = 3.0


@dataclass(frozen=True)
class Cluster:
    """The Ray that this process is connected to.

    Attributes:
        is_own: Whether it was started by this process and ends with it.
        scratch: Folder for what Ray writes during a sweep, the same on all machines.
        dashboard: Address of the dashboard; ``None`` if it has none.
        problem: Why there is no dashboard, if it could not be started.
    """

    nodes: tuple[Node, ...]
    is_own: bool
    scratch: Path
    dashboard: str | None
    problem: str | None = None


def never() -> bool:
    """Return that nobody wants to leave."""
    return False


@contextlib.contextmanager
def start(
    machine: Machine,
    *,
    dashboard: bool = True,
    listen: bool = False,
    leave: Callable[[], bool] = never,
) -> Iterator[Cluster]:
    """Start Ray on this machine; leave nothing behind at the end.

    Args:
        machine: What was found on it.
        dashboard: Whether to start Ray's dashboard.
        listen: Whether other machines can reach it.
        leave: Asked about twenty times a second whether to give up.

    Raises:
        MachineError: Ray does not come up.
        StartInterruptedError: ``leave`` said so.
    """
    with ExitStack() as stack:
        own = {n: value for n, value in bridge.OWN_CLUSTER.items() if n not in os.environ}
        stack.enter_context(bridge.environment(**own, **machine.variables))
        stack.enter_context(bridge.listening(everywhere=listen))
        # A folder of our own: Ray's default one is shared with every other Ray of this machine, and
        # grows by some megabytes with each run.
        folder = stack.enter_context(temporary_folder(machine.temp))
        spill = machine.spill and stack.enter_context(temporary_folder(machine.spill))
        stack.enter_context(ended_with_driver(folder))
        options = bridge.start_options(folder, spill)
        ray = RayThread(folder, leave, START_SECONDS)
        problem = None
        with bridge.environment(**mark(folder)):  # trackers start later, and have none
            try:
                host = "0.0.0.0" if listen else "127.0.0.1"
                context = ray.init(include_dashboard=dashboard, dashboard_host=host, **options)
            except MachineError as error:
                # Anything can be wrong with a web server; a sweep does not need one. And Ray waits
                # half a minute for its own processes, which is too short on a machine under load.
                if ray.log is not None:
                    ray.log.unlink(missing_ok=True)
                if dashboard:
                    problem = str(error.__cause__ or error).strip().splitlines()[0]
                ray = RayThread(folder, leave, START_SECONDS)
                context = ray.init(include_dashboard=False, **options)
        stack.callback(ray.leave)
        stack.callback(disconnect)
        yield Cluster(nodes_there(), True, folder, _url(context), problem)


@contextlib.contextmanager
def join(address: str, shared: Path, *, leave: Callable[[], bool] = never) -> Iterator[Cluster]:
    """Join a running cluster; leave nothing behind at the end.

    Args:
        address: Of the cluster; ``auto`` finds one on this machine.
        shared: Folder that all machines of the cluster see.
        leave: Asked about twenty times a second whether to give up.

    Raises:
        MachineError: There is no cluster at the address.
        StartInterruptedError: ``leave`` said so.
    """
    if address.startswith("ray://"):
        raise MachineError(
            f"{address}: kdsweep runs on a machine of the cluster, not through Ray Client\n"
            "  try:     --address auto there; or ray job submit --address http://HOST:8265 -- "
            "kdsweep run SPACE.yaml"
        )
    _knock(address)
    ray = RayThread(None, leave, JOIN_SECONDS)
    try:
        context = ray.init(address=address)
    except MachineError as error:
        raise MachineError(_why_not_joined(address, error, ray.log)) from error
    with ExitStack() as stack:
        stack.callback(ray.leave)
        stack.callback(disconnect)
        if _belongs_to_a_sweep():
            raise MachineError(
                f"the Ray at {address} was started by another sweep and ends with it\n"
                "  try:     leave --address (and RAY_ADDRESS) out, to start Ray for this sweep; or "
                "ray start --head, for a Ray that several share"
            )
        shared.mkdir(parents=True, exist_ok=True)
        folder = stack.enter_context(temporary_folder(shared.absolute()))
        yield Cluster(nodes_there(), False, folder, _url(context))


def address_to_join(address: str | None) -> str | None:
    """Return the address of the cluster to join; ``None`` if Ray is to be started here.

    Args:
        address: What the user has asked for; ``RAY_ADDRESS`` counts where that is nothing.
    """
    found = address or os.environ.get(bridge.ADDRESS) or "local"
    return None if found == "local" else found


def _why_not_joined(address: str, error: MachineError, log: Path | None) -> str:
    text = f"no Ray cluster could be joined at {address}: {error}"
    said = "" if log is None else log.read_text(encoding="utf-8", errors="replace")
    if bridge.ASKS_FOR_TOKEN not in said:
        return text
    token = bridge.token_place()
    shown = "has none" if token is None else f"shows that of {token}, which is another one"
    return (
        f"the Ray cluster at {address} asks for a token, and this machine {shown}\n"
        f"  log:     {log}\n"
        f"  try:     copy ~/{bridge.HOME_TOKEN} of the machine that runs `ray start --head` to the "
        f"same place here; or {bridge.TOKEN_PATH}=FILE"
    )


def _knock(address: str) -> None:
    """Raise if nothing listens at an address: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS):
            pass
    except OSError as error:
        source = bridge.ADDRESS if os.environ.get(bridge.ADDRESS) == address else "--address"
        raise MachineError(
            f"{source}: there is no Ray cluster at {address}: {error.strerror or error}\n"
            "  try:     unset RAY_ADDRESS and leave --address out, to start Ray for this sweep; "
            "or ray start --head on the cluster's first machine"
        ) from error


def _belongs_to_a_sweep() -> bool:
    """Return whether the cluster is one of :func:`start`: ``auto`` finds every Ray of a machine."""
    return any(part.startswith(PREFIX) for part in bridge.session_folder().parts)


def nodes_there() -> tuple[Node, ...]:
    """Return the machines of the Ray that this process is connected to, as they are now."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    hosts = [node["NodeManagerHostname"] for node in alive]

    def name(node: dict[str, Any]) -> str:
        host = str(node["NodeManagerHostname"])
        is_unique = hosts.count(host) == 1
        return host if is_unique else f"{host} ({node['NodeManagerAddress']})"

    return tuple(
        Node(
            name(node),
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
            node["NodeID"],
        )
        for node in alive
    )


def _url(context: object) -> str | None:
    url = getattr(context, "dashboard_url", None)
    return f"http://{url}" if url else None
