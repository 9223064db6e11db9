"""What a machine lacks is one clear error before anything starts, and nothing is left behind."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from surroundings import (
    FAKE,
    REAL,
    SPACE,
    as_nobody,
    finish,
    namespace,
    run,
    start,
    write_space,
)

pytestmark = pytest.mark.timeout(300)


def check_refused(done, folder, *words):
    """One error with these words, exit code 2, and nothing left in the folder."""
    assert done.code == 2, (done.out, done.err)
    assert done.err.count("error:") == 1
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err, done.err
    assert not (folder / "experiments").exists()


def test_a_folder_of_experiments_that_cannot_be_made(place):
    done = run([*REAL, "run", write_space(place, SPACE), "--out", "/proc/experiments"], place)
    check_refused(done, place, "/proc/experiments: nothing can be written here", "--out FOLDER")


def test_a_read_only_disk(root, place):
    read_only = namespace(
        f"mount --make-rprivate /; mount --bind {place} {place}; "
        f"mount -o remount,bind,ro {place}; cd {place}",
        "--mount",
    )
    done = run([*REAL, "run", write_space(place, SPACE)], place, read_only)
    check_refused(done, place, "experiments: nothing can be written here: Read-only file system")


def test_an_experiment_that_cannot_be_written_is_not_resumed(root, place):
    (place / "old").mkdir()
    (place / "old" / "ledger.jsonl").touch()
    read_only = namespace(
        f"mount --make-rprivate /; mount --bind {place} {place}; "
        f"mount -o remount,bind,ro {place}; cd {place}",
        "--mount",
    )
    done = run([*REAL, "resume", "old"], place, read_only)
    check_refused(done, place, "old: nothing can be written here: Read-only file system")


def test_a_limit_of_processes(root, place):
    nobody = as_nobody("--nproc=150:150")
    done = run([*REAL, "run", write_space(place, SPACE)], place, nobody, HOME=place, TMPDIR=place)
    check_refused(done, place, "more threads and processes can be started (ulimit -u is 150)")


def test_no_loopback_network(root, place):
    done = run([*REAL, "run", write_space(place, SPACE)], place, namespace(":", "--net"))
    check_refused(done, place, "127.0.0.1: no connection is possible")


def test_all_that_is_missing_is_said_at_once(root, place):
    done = run(
        [*REAL, "run", write_space(place, SPACE), "--out", "/proc/experiments"],
        place,
        namespace(":", "--net"),
        RAY_TMPDIR="/proc",
    )
    check_refused(done, place, "/proc/experiments", "127.0.0.1", "no folder was found for Ray")


def test_a_cluster_that_has_gone(place):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    space = write_space(place, SPACE)
    done = run([*REAL, "run", space], place, RAY_ADDRESS=address)
    check_refused(done, place, f"RAY_ADDRESS: there is no Ray cluster at {address}", "unset RAY")
    done = run([*REAL, "run", space, "--address", address], place)
    check_refused(done, place, f"--address: there is no Ray cluster at {address}")


@pytest.fixture
def deaf():
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.ray
def test_an_address_where_something_else_listens(place, deaf):
    limit = "from kdsweep.sweep.ray import cluster; cluster.JOIN_SECONDS = 8.0"
    main = f"{limit}; from kdsweep.cli import main; main()"
    command = [sys.executable, "-c", main, "run", write_space(place, SPACE), "--address", deaf]
    done = run(command, place, TMPDIR=place)
    check_refused(done, place, f"no Ray cluster could be joined at {deaf}", "not come up in 8 s")
    log = Path(done.err.split("log:")[1].split()[0])
    assert log.parent == place
    assert "Failed to connect to GCS" in log.read_text(encoding="utf-8")
    assert "rpc_client" not in done.err  # Ray's own words are in the log


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_joining(number, place, deaf):
    process = start([*REAL, "run", write_space(place, SPACE), "--address", deaf], place)
    seen = _read_until(process, "checks")
    time.sleep(3.0)  # into ray.init
    began = time.monotonic()
    process.send_signal(number)
    done = finish(process, 20)
    assert time.monotonic() - began < 5.0
    assert done.code == 130, (seen, done)
    assert "Traceback" not in done.err


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_ray_starts(number, place):
    process = start([*FAKE, "run", write_space(place)], place, RAY_TMPDIR=place)
    _read_until(process, "checks")
    deadline = time.monotonic() + 60
    while not (found := _ray_processes(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found, "Ray has started nothing"
    process.send_signal(number)
    done = finish(process, 30)
    assert done.code == 130, done
    assert "Traceback" not in done.err
    assert [path.name for path in place.iterdir()] == ["space.yaml"]
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in found) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in found)


def _ray_processes(parent):
    """Children of a process that are Ray's."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == parent and b"/.kds-" in (path.parent / "cmdline").read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def _read_until(process, word):
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith(word):
            return seen
    raise AssertionError((seen, process.stderr.read()))


@pytest.mark.ray
@pytest.mark.slow
def test_workers_of_a_joined_cluster_that_are_nice_are_named(root, place):
    """A cluster that ``ray start`` has made, in a network of its own: niceness 15 by default."""
    script = (
        "import subprocess, sys\n"
        "ray = [sys.executable, '-m', 'ray.scripts.scripts']\n"
        "head = [*ray, 'start', '--head', '--port=6399', '--temp-dir=/tmp/kds-t',\n"
        "    '--node-ip-address=127.0.0.1', '--include-dashboard=false', '--num-cpus=2']\n"
        "for _ in range(4):\n"
        "    # On a busy machine Ray gives up on itself now and then.\n"
        "    if subprocess.run(head, stdout=subprocess.DEVNULL).returncode == 0: break\n"
        "    subprocess.run([*ray, 'stop', '--force'])  # in a process namespace of its own\n"
        "sys.exit(subprocess.run(sys.argv[1:]).returncode)\n"
    )
    alone = namespace(
        "ip link set lo up; mount -t tmpfs tmpfs /tmp/kds-t",
        *("--net", "--mount", "--pid", "--fork", "--mount-proc"),
    )
    Path("/tmp/kds-t").mkdir(exist_ok=True)
    command = [sys.executable, "-c", script, *FAKE, "run", write_space(place)]
    home = place / "home"
    home.mkdir()
    done = run([*command, "--address", "127.0.0.1:6399"], place, alone, timeout=400, HOME=home)
    assert done.code == 0, (done.out, done.err)
    host = socket.gethostname()
    assert done.out.count(f"warning: workers on {host} run at niceness 15") == 1
    assert "RAY_worker_niceness=0 ray start" in done.out
    assert os.nice(0) < 15


@pytest.mark.ray
def test_the_ray_of_another_sweep_is_not_joined(root, place):
    """``auto`` finds every Ray of a machine; here the only one is another sweep's."""
    script = (
        "import subprocess, sys\n"
        "from pathlib import Path\n"
        "from kdsweep.sweep.machine import check_machine\n"
        "from kdsweep.sweep.ray import bridge, cluster\n"
        "with bridge.environment():\n"
        "    with cluster.start(check_machine(Path('.')), dashboard=False):\n"
        "        sys.exit(subprocess.run(sys.argv[1:]).returncode)\n"
    )
    command = [*FAKE, "run", write_space(place), "--address", "auto"]
    alone = namespace("ip link set lo up", "--net", "--pid", "--fork", "--mount-proc")
    done = run([sys.executable, "-c", script, *command], place, alone)
    check_refused(done, place, "the Ray at auto was started by another sweep and ends with it")
