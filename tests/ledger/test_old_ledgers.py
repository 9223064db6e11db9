"""Ledgers that earlier versions wrote: read as they were, told as they were, number for number.

``fixtures/sweeps`` holds sweeps with failures and retries, kills and pauses, cohorts, paired
controls, constraints, several metrics, extensions and a confirmation; ``fixtures/expected`` what
the version that wrote them said of each, but for what has changed since: of equal trials the
smaller is the best, controls may be the best, and how long a trial was trained is told.
"""

import io
import json
import math
import shutil
import socket
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from kdsweep.config.distill import PART_KEYS
from kdsweep.errors import KdsweepError
from kdsweep.ledger import Experiment, read_ledger
from kdsweep.ledger.state import Sweep
from kdsweep.reporting import load, read_all_statuses, read_status, to_json
from kdsweep.sweep.confirm import jobs_to_confirm
from kdsweep.sweep.display import event_line, render
from kdsweep.sweep.outcome import make_outcome

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = sorted(path.name for path in (FIXTURES / "sweeps").iterdir())
NOW = 1_795_100_000.0
# Of two seeds, which no always-valid test can speak of.
ALWAYS_VALID = (
    "always_low", "always_high", "evidence", "verdict", "verdict_seeds", "seeds_saved", "skew_note",
)  # fmt: skip


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """The folder of all sweeps, with nobody at work in it."""
    return Path(shutil.copytree(FIXTURES / "sweeps", tmp_path_factory.mktemp("old") / "sweeps"))


@pytest.fixture(autouse=True)
def _on_the_machine_that_wrote_them(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "node-1")
    monkeypatch.setattr(time, "time", lambda: NOW)


def expected(name):
    """What was said, by the rule for the best that holds today."""
    return json.loads((FIXTURES / "expected" / f"{name}.json").read_text())


def as_json(value, sweeps):
    return json.loads(json.dumps(value, default=str).replace(str(sweeps), "<root>"))


def differences(was, now, at=""):
    """Where two JSON values differ; numbers may by what sums in another order do."""
    if isinstance(was, dict) and isinstance(now, dict):
        assert list(was) == list(now), at
        return [d for key in was for d in differences(was[key], now[key], f"{at}/{key}")]
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        pairs = enumerate(zip(was, now, strict=True))
        return [d for place, (a, b) in pairs for d in differences(a, b, f"{at}/{place}")]
    if isinstance(was, float) and isinstance(now, float) and math.isclose(was, now, rel_tol=1e-12):
        return []
    return [] if was == now and type(was) is type(now) else [(at, was, now)]


def text(drawn):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(drawn)
    return console.export_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_report_says_what_it_said(sweeps, name):
    results = load(sweeps / name)
    was = expected(name)
    now = as_json(to_json(results), sweeps)
    assert now["summary"].pop("miou_over") == "seen"  # told since, and as it was then
    assert now["summary"].pop("protocol") == "resized"
    rows = now["confirmation"]
    now.pop("answer", None)  # sentences, which tests of their own look at
    assert now.pop("caveats") is not None
    for link in now["summary"]["confirmed_by"]:
        assert link.pop("protocol") == "resized"
        rows = rows + link["claims"]
    for row in rows:
        assert {key: row.pop(key) for key in ALWAYS_VALID} == dict.fromkeys(ALWAYS_VALID)
        told = [row.pop(f"last_{key}") is not None for key in ("gain", "low", "high")]
        is_val = row["split"] == "validation"
        assert told == [is_val and row[key] is not None for key in ("gain", "low", "high")]
    # Told since: what the teacher had ahead of the control, and how long the pair took.
    leads = {row["trial"]: row.pop("lead") for row in now["gains"]}
    ratios = {row["trial"]: row.pop("time_ratio") for row in now["gains"]}
    assert all(ratio is None or 0 < ratio < 20 for ratio in ratios.values())
    control_of = {row["trial"]: row["control_value"] for row in now["gains"]}
    for row in now["trials"]:
        lead = leads.get(row["number"])
        assert row.pop("lead") == lead
        if lead is not None:
            assert lead == pytest.approx(row["teacher_miou"] - control_of[row["number"]])
    assert differences(was["report"], now) == []
    assert was["epochs"] == results.epochs.to_csv(index=False)


@pytest.mark.parametrize("name", NAMES)
def test_status_says_what_it_said(sweeps, name):
    now = as_json(read_status(sweeps / name, now=NOW).to_json(), sweeps)
    now.pop("num_to_retry", None)  # told since
    assert differences(expected(name)["status"], now) == []


def test_list_says_what_it_said(sweeps):
    found = as_json([seen.to_json() for seen in read_all_statuses(sweeps)], sweeps)
    statuses = {name: expected(name)["status"] for name in NAMES}
    for seen in found:
        seen.pop("num_to_retry", None)  # told since
    listed = json.loads((FIXTURES / "expected" / "list.json").read_text())
    names = [Path(seen["path"]).name for seen in listed]
    assert differences([statuses[name] for name in names], found) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_driver_would_go_on_as_it_did(sweeps, name):
    was = expected(name)
    sweep, said = Sweep(), []
    for event in read_ledger(sweeps / name / "ledger.jsonl"):
        sweep.apply(event)
        said.append(event_line(sweep, event))
    assert was["lines"] == said
    if sweep.is_new:
        return
    if sweep.sessions:
        assert was["live"] == text(render(sweep, NOW, 160))
        assert was["slot_hours"] == pytest.approx([sweep.slot_hours(), sweep.gpu_hours()])
    outcome = as_json(asdict(make_outcome(sweep, Experiment(sweeps / name))), sweeps)
    outcome.pop("retry_command")  # told since
    assert differences(was["outcome"], outcome) == []
    rungs = {str(k): {str(t): v[0] for t, v in r.items()} for k, r in sweep.rungs.points.items()}
    assert was["rungs"] == rungs


NEW_DATA_KEYS = {
    **{"classes": None, "accept": [], "image_bits": 8},
    **{"crop": None, "crop_scale": [0.5, 2.0], "unlabelled_augment": "strong"},
    **dict.fromkeys(("unlabelled", "labelled", "num_labelled")),
    "all_labels": False,
    "unlabelled_scenes": 0,
}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_jobs_would_be_confirmed(sweeps, name):
    try:
        jobs = jobs_to_confirm(sweeps / name, top=3, seeds=2).resolved()
    except KdsweepError as error:
        jobs = str(error)
    now = as_json(jobs, sweeps)
    if isinstance(now, dict):  # keys that have come since, at what was so before
        for tracker in ("tensorboard", "mlflow"):
            assert now["tracking"].pop(tracker) is None
        assert now["sweep"].pop("further_controls") == []
        assert now["sweep"].pop("try_first") == []
        assert now["sweep"].pop("hang_minutes") == "auto"
        for job in now["jobs"].values():
            assert [job["data"].pop(key) for key in NEW_DATA_KEYS] == list(NEW_DATA_KEYS.values())
            assert job["train"].pop("validate_at") == "resized"
            assert job["train"].pop("select") == "best"
            assert job["train"].pop("unlabelled_ratio") == 1.0
            assert [job["distill"].pop(key) for key in PART_KEYS] == [1.0, 1.0, 0.0]
    assert expected(name)["confirm"] == now


def test_jobs_of_a_cheap_sweep_can_be_confirmed_at_the_size_that_papers_print(sweeps):
    path = sweeps / "20261122-141503-front"
    asis = jobs_to_confirm(path, top=3, seeds=2)
    native = jobs_to_confirm(path, top=3, seeds=2, protocol="native")
    assert [job.train.validate_at for job in native.jobs.values()] == ["native"] * len(asis.jobs)
    for name, job in native.jobs.items():
        train = job.train.model_copy(update={"validate_at": "resized"})
        assert job.model_copy(update={"train": train}) == asis.jobs[name]
    with pytest.raises(KdsweepError, match="no such protocol"):
        jobs_to_confirm(path, top=3, seeds=2, protocol="paper")
