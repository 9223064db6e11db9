"""A sweep runs to its end on the machines that people have."""

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from surroundings import (
    FAKE,
    REAL,
    SPACE,
    as_nobody,
    namespace,
    run,
    write_space,
)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

LONG_HOST = "trainer-worker-7d9f8b6c5d-x2x4z.some-namespace.svc.cluster.local"


def check_done(done, folder, out="experiments"):
    """The sweep is done, and nothing of it is left elsewhere."""
    assert done.code == 0, (done.out, done.err)
    assert "done: 1 complete; 1 control" in done.out
    assert "Traceback" not in done.out + done.err
    assert (folder / out / "latest" / "ledger.jsonl").is_file()


def test_a_sweep_is_run_to_its_end(place):
    """On the machine as it is; the slow tests have other ones."""
    check_done(run([*FAKE, "run", write_space(place)], place), place)
    again = run([*FAKE, "resume"], place)
    assert again.code == 0
    assert "nothing left to do" in again.out


@pytest.mark.slow
def test_a_sweep_is_extended_and_confirmed(place):
    check_done(run([*FAKE, "run", write_space(place)], place), place)
    more = run([*FAKE, "extend", "--trials", "1"], place)
    assert "done: 2 complete; 1 control" in more.out, more
    confirmed = run([*FAKE, "confirm", "--top", "1", "--seeds", "1"], place)
    assert "done: 1 complete; 1 control" in confirmed.out, confirmed


@pytest.mark.slow
def test_a_small_container_of_a_cluster(root, place):
    """All at once: what most containers of a cluster have. Other tests have them one by one."""
    folder = place / "Ünï cöde ; dir"
    folder.mkdir()
    temp = place / ("t" * (100 - len(str(place))))
    temp.mkdir()
    wrapper = namespace(
        f"hostname {LONG_HOST}; mount -t tmpfs -o size=64m tmpfs /dev/shm; ulimit -n 256; "
        "ip link set lo up; export LANG=C LC_ALL=C https_proxy=http://10.9.9.9:3128",
        *("--uts", "--mount", "--net", "--pid", "--fork", "--mount-proc"),
    )
    done = run(
        [*FAKE, "run", write_space(folder)], folder, wrapper, TMPDIR=temp, HOME="/proc/nowhere"
    )
    check_done(done, folder)
    # Objects that do not fit in memory go where the user's temporary files go; the token too.
    assert [path.name for path in temp.iterdir()] == [f"kdsweep-{os.getuid()}"]


NAMESPACES = {
    "host name": namespace(f"hostname {LONG_HOST}", "--uts"),
    "little shared memory": namespace("mount -t tmpfs -o size=64m tmpfs /dev/shm", "--mount"),
    "few open files": ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh"],
    "loopback only": namespace("ip link set lo up", "--net"),
    "process 1": namespace(":", "--pid", "--fork", "--mount-proc"),
    "one core": ["taskset", "-c", "0"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMESPACES)
def test_surroundings(name, root, place):
    check_done(run([*FAKE, "run", write_space(place)], place, NAMESPACES[name]), place)


@pytest.mark.slow
def test_proxies_are_not_asked(place):
    proxy = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://10.9.9.9:3128")
    check_done(run([*FAKE, "run", write_space(place)], place, **proxy), place)


@pytest.mark.slow
def test_an_empty_environment(place):
    script = shutil.which("kdsweep", path=os.path.dirname(sys.executable))
    if script is None:
        pytest.skip("kdsweep is not installed beside this interpreter")
    command = ["env", "-i", f"PYTHONPATH={os.environ.get('PYTHONPATH', '')}", script]
    done = run([*command, "run", write_space(place, SPACE)], place)
    check_done(done, place)


@pytest.mark.slow
def test_two_at_once(place):
    folders = [place / "a", place / "b"]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(2) as threads:
        both = list(
            threads.map(lambda folder: run([*FAKE, "run", write_space(folder)], folder), folders)
        )
    for folder, done in zip(folders, both, strict=True):
        check_done(done, folder)


@pytest.mark.slow
def test_a_user_without_name_and_home(root, place):
    """``docker run --user 12345``; a real trial, with the libraries that ask for a home."""
    done = run(
        [*REAL, "run", write_space(place, SPACE)],
        place,
        as_nobody(),
        HOME=None,
        USER=None,
        TMPDIR=place,
    )
    check_done(done, place)
    assert f"there is no home folder: {place}/kdsweep-12345 is used" in done.out
    assert (place / "kdsweep-12345" / ".cache" / "kdsweep").is_dir()


@pytest.mark.slow
def test_a_home_that_cannot_be_written(root, place):
    home, shown = (
        place / "home",
        namespace(
            "mount --make-rprivate /; mount --bind $HOME $HOME; mount -o remount,bind,ro $HOME",
            "--mount",
        ),
    )
    home.mkdir()
    done = run([*FAKE, "run", write_space(place)], place, shown, HOME=home, TMPDIR=place)
    check_done(done, place)
    assert done.out.count("the home folder cannot be written") == 2
    assert list(home.iterdir()) == []


@pytest.mark.slow
def test_training_has_this_process_s_niceness(place):
    done = run([*FAKE, "run", write_space(place)], place, ["nice", "-n", "3"], RAY_TMPDIR=place)
    check_done(done, place)
    assert {path.name for path in place.iterdir()} == {"space.yaml", "experiments"}
    log = (place / "experiments/latest/trials/0000/log.txt").read_text(encoding="utf-8")
    assert "niceness 3" in log
    assert "run at niceness" not in done.out


def test_python_m_kdsweep():
    here = Path(__file__).parents[2]
    assert run([*REAL, "--version"], here).out.startswith("kdsweep ")
