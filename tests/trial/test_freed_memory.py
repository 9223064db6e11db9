"""Whether a CPU training's freed memory stays with its process, and goes back when asked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_job import make_job

import kdsweep
from kdsweep import trial
from kdsweep.trial import running, step_timing

# Sixteen pieces of 4 and of 48 MiB, as a step has them, written to and freed.
PROGRAM = """
import json, os, resource, torch
from kdsweep.trial.freed_memory import keep_freed_memory, return_freed_memory

def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident_mb():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

def step():
    before = faults()
    pieces = [torch.ones(size * 2**18) for size in [4, 48] * 8]
    del pieces
    return faults() - before

found = {}
step()
found["plain"] = min(step() for _ in range(3))
keep_freed_memory(torch.device(DEVICE))
step()
found["kept"] = min(step() for _ in range(3))
found["holds"] = resident_mb()
return_freed_memory()
found["returned"] = resident_mb()
torch.ones(600 * 2**18)
found["after_more"] = resident_mb()
print(json.dumps(found))
"""


def run(device: str = "cpu", **environment: str) -> dict[str, float]:
    ours = {k: v for k, v in os.environ.items() if "MALLOC" not in k and k != "GLIBC_TUNABLES"}
    printed = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("DEVICE", repr(device))],
        env=ours | environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    found: dict[str, float] = json.loads(printed)
    if found["plain"] < 1000:
        pytest.skip("this C library keeps what is freed by itself")
    return found


def test_steps_after_the_first_find_their_memory_and_it_goes_back_at_the_end() -> None:
    found = run()
    assert found["kept"] < 50
    assert found["returned"] < found["holds"] - 300
    assert found["after_more"] < found["returned"] + 300


@pytest.mark.parametrize(
    ("device", "environment"),
    [
        ("cuda", {}),
        ("cpu", {"MALLOC_TRIM_THRESHOLD_": "131072"}),
        ("cpu", {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}),
    ],
)
def test_on_a_gpu_and_where_the_user_says_how_memory_is_kept_nothing_changes(
    device: str, environment: dict[str, str]
) -> None:
    assert run(device, **environment)["kept"] > 1000


def test_trainings_and_what_times_them_keep_it_and_the_api_gives_it_back(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for room, name in ((running, "run_jobs"), (step_timing, "measure_step_cost")):
        monkeypatch.setattr(
            room, "keep_freed_memory", lambda device, n=name: asked.append(f"{n}, {device.type}")
        )
    monkeypatch.setattr(trial, "return_freed_memory", lambda: asked.append("given back"))
    job = make_job(tiny_data, tmp_path)
    kdsweep.train(job, out=tmp_path / "out", device="cpu", num_threads=1)
    assert asked == ["run_jobs, cpu", "given back"]
    trial.measure_step_cost(job, device="cpu", num_rounds=2, seconds=1.0, num_threads=1)
    assert asked[2:] == ["measure_step_cost, cpu"]
