"""Machines that share nothing but a network: namespaces of this one (Linux, as root).

Each host has its own network, host name, ``/tmp/ray`` and whatever folder is to be its own. Ray is
started in each as a user would start it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# Test processes side by side have networks of their own.
_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
BRIDGE, NETWORK = f"kdsbr{_PROCESS}", f"10.77.{13 + _PROCESS}"
RAY = Path(sys.executable).with_name("ray")
TESTS = Path(__file__).resolve().parents[1]


def why_not() -> str | None:
    """Return why there can be no such hosts here; ``None`` if there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "hosts are made of namespaces, which needs Linux and root"
    for tool in ("ip", "unshare", "nsenter", "mount"):
        if shutil.which(tool) is None:
            return f"hosts are made of namespaces, which needs {tool}"
    tried = subprocess.run(
        ["ip", "link", "add", BRIDGE, "type", "bridge"], capture_output=True, text=True
    )
    if tried.returncode:
        return f"no bridge can be made here: {tried.stderr.strip()}"
    sh("ip", "addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
    sh("ip", "link", "set", BRIDGE, "up")
    return None


def remove_bridge() -> None:
    """Undo what :func:`why_not` has made."""
    subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)


def sh(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


class Host:
    """One machine.

    Args:
        number: From 1; gives its address.
        private: Folders that are its own, and empty.
        env: Further variables of all that runs there.
    """

    def __init__(
        self, number: int, private: Sequence[Path] = (), env: Mapping[str, str] | None = None
    ) -> None:
        self.name = f"host-{number}"
        self.address = f"{NETWORK}.{10 + number}"
        self._link = f"kds{_PROCESS}x{number}"
        self._space = f"{self._link}ns"
        self.env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(TESTS / "sweep"), str(TESTS), os.environ.get("PYTHONPATH", "")]
            ),
            "RAY_AUTH_MODE": "disabled",  # a token in the home folder would be asked for
            **(env or {}),
        }
        self._processes: list[subprocess.Popen[str]] = []
        sh("ip", "netns", "add", self._space)
        sh("ip", "link", "add", self._link, "type", "veth", "peer", "name", f"{self._link}p")
        sh("ip", "link", "set", f"{self._link}p", "netns", self._space, "name", "eth0")
        sh("ip", "link", "set", self._link, "master", BRIDGE, "up")
        inside = ["ip", "netns", "exec", self._space]
        sh(*inside, "ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        sh(*inside, "ip", "link", "set", "eth0", "up")
        sh(*inside, "ip", "link", "set", "lo", "up")
        Path("/tmp/ray").mkdir(exist_ok=True)
        mounts = " && ".join(
            f"mount -t tmpfs none {folder}" for folder in (Path("/tmp/ray"), *private)
        )
        self._holder = subprocess.Popen(
            [
                *inside,
                *("unshare", "--mount", "--uts", "--propagation", "private", "bash", "-c"),
                f"hostname {self.name} && {mounts} && echo up && exec sleep 100000",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "up\n"

    def command(self, *command: str) -> list[str]:
        """Return what runs a command on the host."""
        return ["nsenter", "-t", str(self._holder.pid), "--mount", "--uts", "--net", *command]

    def start(self, *command: str, **options: object) -> subprocess.Popen[str]:
        """Start a command on the host."""
        process = subprocess.Popen(
            self.command(*command),
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **options,  # type: ignore[call-overload]
        )
        self._processes.append(process)
        return process

    def ray(self, head: Host | None = None, cpus: int = 1, *more: str) -> None:
        """Start Ray here, as a head or on one."""
        where = ["--head", "--port=6379", "--include-dashboard=false"]
        if head is not None:
            where = [f"--address={head.address}:6379"]
        done = subprocess.run(
            self.command(
                str(RAY),
                "start",
                *where,
                f"--node-ip-address={self.address}",
                f"--num-cpus={cpus}",
                "--object-store-memory=100000000",
                "--disable-usage-stats",
                *more,
            ),
            env={**self.env, "RAY_worker_niceness": "0"},
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def cut_off(self) -> None:
        """Take the host from the network, with all that runs there going on."""
        sh("ip", "link", "set", self._link, "down")

    def reconnect(self) -> None:
        """Put the host back."""
        sh("ip", "link", "set", self._link, "up")

    def pids(self) -> list[int]:
        """Return the processes of the host."""
        found = subprocess.run(
            ["ip", "netns", "pids", self._space], capture_output=True, text=True
        ).stdout
        return [int(pid) for pid in found.split()]

    def close(self) -> None:
        """End everything there."""
        for _ in range(50):
            pids = self.pids()
            if not pids:
                break
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        for process in (self._holder, *self._processes):
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()
        subprocess.run(["ip", "link", "del", self._link], capture_output=True)
        subprocess.run(["ip", "netns", "del", self._space], capture_output=True)
