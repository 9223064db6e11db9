"""Disks that fill up, cannot be written or go away under a sweep: it ends in order, and goes on.

Each case has a small disk of its own, which a shell in a mount namespace spoils after some epochs.
The made-up trainings write some 300 kB an epoch, as real ones do it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from plain_events import read_plain

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]
HERE = Path(__file__).parent
SPACE = """
name: tiny
data: {source: roadscenes, image_size: [32, 48], scenes: 8}
teacher: {encoder: resnet18}
student: {encoder: resnet18}
distill: {pixel_kl: {weight: {min: 0.5, max: 2}}}
train: {epochs: 8, lr: {min: 1.0e-4, max: 1.0e-1}}
sweep: {trials: 3, controls: shared, max_concurrent: 2}
tracking: {wandb: {mode: "off"}}
"""
# The command line, with the made-up trainings.
MAIN = """
import functools, kdsweep.sweep
from kdsweep.cli import main
for verb in ("run_sweep", "resume_sweep"):
    real = getattr(kdsweep.sweep, verb)
    made_up = functools.partial(real, runner="chaos_runner", dashboard=False)
    setattr(kdsweep.sweep, verb, made_up)
main()
"""
SCRIPT = """
mount -t tmpfs -o $OPTIONS disk disk
mkdir -p disk/experiments
sweep() { "$PYTHON" main.py "$@" --json; }
sweep run space.yaml --out "$OUT" > out.txt 2> err.txt & pid=$!
count() { cat "$OUT"/latest/ledger.jsonl 2> /dev/null | grep -c '"event":"epoch"'; }
until [ "$(count)" -ge 4 ] || ! kill -0 $pid; do sleep 0.1; done
experiment=$(readlink -f "$OUT"/latest)
eval "$SPOIL"
wait $pid; echo $? > code.txt
eval "$MEND"
sweep resume "$experiment" > again.txt 2>&1; echo $? > code-again.txt
cp "$experiment"/ledger.jsonl .
find "$experiment" -name '.best.*' -o -name '.epoch-*' > drafts.txt
"""
FILL = "head -c 1G /dev/zero > disk/ballast 2> /dev/null"
FILES = "mkdir $(seq -f disk/f%g 500) 2> /dev/null"  # at once: the sweep is short
EXPERIMENTS = "disk/experiments"
READ_ONLY = "mount --bind disk disk; mount -o remount,bind,ro disk"


@pytest.fixture(scope="module", autouse=True)
def _disks():
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("disks can be mounted by root on Linux only")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")


def spoiled(place, spoil, mend, *, options="size=90m", out=EXPERIMENTS, **variables):
    """Run a sweep whose disk is spoiled, mend the disk, resume; what was said at the break."""
    for name in ("disk", "there"):
        (place / name).mkdir()
    (place / "space.yaml").write_text(SPACE)
    (place / "main.py").write_text(MAIN)
    path = [*map(str, (HERE, HERE.parent / "chaos")), os.environ.get("PYTHONPATH", "")]
    more = {"OPTIONS": options, "OUT": out, "SPOIL": spoil, "MEND": mend, "PYTHON": sys.executable}
    more["FAKE_NETWORK_BYTES"] = str(10**12)
    environment = {**os.environ, **more, **variables, "PYTHONPATH": os.pathsep.join(path)}
    subprocess.run(
        ["unshare", "--mount", "sh", "-c", SCRIPT], cwd=place, env=environment, timeout=280
    )
    return int((place / "code.txt").read_text()), (place / "err.txt").read_text()


def check_whole(place):
    """The resumed sweep is done: no trial has failed, no epoch is missing or there twice."""
    assert (place / "code-again.txt").read_text().strip() == "0", (place / "again.txt").read_text()
    events = read_plain(place / "ledger.jsonl")
    assert events[-1]["event"] == "done"
    assert not [event for event in events if event["event"] == "fail"]
    epochs = [(event["trial"], event["epoch"]) for event in events if event["event"] == "epoch"]
    assert len(epochs) == len(set(epochs))
    assert (place / "drafts.txt").read_text() == ""
    assert (place / "out.txt").read_text().count("warning: the disk may fill up") == 1
    assert "the disk may fill up" not in (place / "again.txt").read_text()


BREAKS = {
    "full": (FILL, "rm disk/ballast", "the disk is full", "make room there; then"),
    "all but full": (
        f"{FILL}; truncate -s -100k disk/ballast",
        "rm disk/ballast",
        "the disk is full",
        "make room there; then",
    ),
    "inodes": (FILES, "rmdir disk/f*", "(inodes are used up)", "remove files there (df -i); then"),
    "read-only": (READ_ONLY, "umount disk", "the file system is read-only", "make it writable"),
    "removed": (
        'mv "$experiment" disk/away',
        'mv disk/away "$experiment"',
        "ledger.jsonl is not there any more",
        "put its folder back",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_an_experiment_whose_disk_is_spoiled(name, tmp_path):
    spoil, mend, reason, remedy = BREAKS[name]
    options = "size=170m,nr_inodes=500" if name == "inodes" else "size=90m"
    code, said = spoiled(tmp_path, spoil, mend, options=options)
    assert code == 1, said
    assert said.count("error:") == 1
    assert "Traceback" not in said
    first, second = said.splitlines()
    assert f"{tmp_path}/disk/experiments/" in first.partition("broke off: ")[2], first
    assert reason in first
    assert remedy in second
    assert "kdsweep resume disk/experiments/" in second
    check_whole(tmp_path)


@pytest.mark.parametrize("spoil", [FILL, "rm -rf disk/.kds-*"], ids=["full", "removed"])
def test_a_sweep_outlives_the_disk_of_ray(spoil):
    """Ray only writes its logs there once it is up."""
    with tempfile.TemporaryDirectory(prefix="kd") as name:  # paths of sockets are short
        place = Path(name)
        disk = str(place / "disk")
        code, said = spoiled(place, spoil, ":", out="there", options="size=170m", RAY_TMPDIR=disk)
        assert code == 0, said
        check_whole(place)
