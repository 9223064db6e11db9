"""A Ray of a sweep is alone with its driver: where it listens, and that it ends with it."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import pytest
from simulation import SPACE

HERE = Path(__file__).parent
MARK = "KDSWEEP_TEST_OF_ORPHANS"

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


def members(mark):
    """Each process that has the mark in its environment, and its command line."""
    found = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and mark in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
    return found


def addresses(pids):
    """Addresses at which these processes listen, for TCP and UDP."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(descriptor)))
    found = []
    for family in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
            local, _, state, *rest = line.split()[1:]
            if rest[5] in inodes and (state == "0A" or family.startswith("udp")):
                digits = local.partition(":")[0]
                words = [bytes.fromhex(digits[i : i + 8])[::-1] for i in range(0, len(digits), 8)]
                address = ip_address(b"".join(words))
                found.append(getattr(address, "ipv4_mapped", None) or address)
    return found


@contextlib.contextmanager
def sweep(folder, **options):
    """A driver whose trials train, with its dashboard; its mark and its process."""
    space = {**SPACE, "sweep": {**SPACE["sweep"], "trials": 40}}
    space |= {part: {**SPACE[part], "options": {"seconds": 0.3}} for part in ("teacher", "student")}
    (folder / "space.json").write_text(json.dumps(space))
    arguments = [f"{name}={json.dumps(value)}" for name, value in options.items()]
    command = [sys.executable, HERE / "sweep_process.py", "run", folder, folder / "space.json"]
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, MARK: folder.name}
    environment.pop("RAY_ADDRESS", None)
    process = subprocess.Popen(
        [*command, "dashboard=true", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
    )  # fmt: skip
    mark = f"{MARK}={folder.name}\0".encode()
    try:
        for line in process.stdout:
            if json.loads(line)["event"] == "epoch":
                break
        yield mark, process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def killed_and_gone(mark, process, seconds):
    """Kill the driver alone; what is left of its sweep after so many seconds."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + seconds
    while (left := members(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def test_nothing_listens_to_other_machines_and_nothing_outlives_the_driver(tmp_path):
    with sweep(tmp_path) as (mark, process):
        deadline = time.monotonic() + 60
        # Agents may come after the first trial.
        while not any(line.startswith(b"ray::DashboardAgent") for line in members(mark).values()):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(3)
        found = addresses(members(mark))
        assert len(found) >= 6
        assert [address for address in found if not address.is_loopback] == []
        assert killed_and_gone(mark, process, 10) == {}


def test_listen_opens_it(tmp_path):
    own = socket.gethostbyname(socket.gethostname())
    with sweep(tmp_path, listen=True) as (mark, process):
        found = addresses(members(mark))
        assert any(address.is_unspecified or str(address) == own for address in found)
        assert killed_and_gone(mark, process, 10) == {}
