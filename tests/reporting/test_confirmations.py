"""A sweep names its confirmations, and they name it, though its own files know nothing of them."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from experiments_on_disk import shown, write
from plain_events import write_plain

from kdsweep.api import _claims_of
from kdsweep.deploy.choosing import ChosenStudent
from kdsweep.ledger import Experiment
from kdsweep.reporting import (
    load,
    read_all_statuses,
    read_status,
    render,
    render_best,
    render_list,
    render_status,
    to_json,
    write_page,
)
from kdsweep.reporting.next_steps import next_commands
from kdsweep.reporting.papers import paper_tables

CLAIM = "+2.5 mIoU points, 95 % interval 0.4 to 4.6, 4 seeds"


def confirmation(
    story: Any, gains: list[float], job: str, *, ended: bool = True, protocol: str = ""
) -> Any:
    """A confirmation of one job: for each seed a student and the control that rides along."""
    asked = {"trials": len(gains), "num_controls": len(gains), "protocol": protocol}
    asked["data"] = {"source": "camvid", "embedded": False, "image_size": [64, 96]}
    story.sweep(**asked, epochs=1, name="again").session()
    for seed, gain in enumerate(gains):
        number = 2 * seed
        story.trial(number, control=number + 1, params={"job": job, "train.seed": seed + 1})
        story.trial(number + 1, teacher=None)
        for trial, value in ((number + 1, 0.40), (number, 0.40 + gain)):
            story.run(trial, [value], test=value - 0.1)
    return story.add("done") if ended else story.add("pause", reason="sigint")


@pytest.fixture
def source(tmp_path: Path, mixed: Any) -> Experiment:
    return write(tmp_path, mixed.add("done"), "road<i>s")


@pytest.fixture
def confirm(tmp_path: Path, new_story: Any) -> Any:
    """Writes an experiment that confirms another one."""

    def make(source: Experiment, gains: tuple[float, ...], **kwargs: Any) -> Experiment:
        story = confirmation(new_story(), list(gains), "trial 0001", **kwargs)
        made = write(tmp_path, story, "roads-confirm")
        origin = {"experiment": str(source.path), "trials": {"trial 0001": {}}}
        made.spec_json.write_text(json.dumps({"name": "again", "jobs": {}, "origin": origin}))
        return made

    return make


def words(page: Path) -> str:
    text = re.sub(r"<(script|style)\b.*?</\1>", "", page.read_text(), flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_a_sweep_says_what_its_confirmations_allow_to_claim(source: Any, confirm: Any) -> None:
    assert load(source.path).summary["confirmed_by"] == []
    made = confirm(source, (0.01, 0.03, 0.02, 0.04))
    results = load(source.path)
    (link,) = results.summary["confirmed_by"]
    assert (link["experiment"], link["state"], link["error"]) == (str(made.path), "done", None)
    assert [row["split"] for row in link["claims"]] == ["validation", "test"]
    assert {row["claim"] for row in link["claims"]} == {CLAIM}
    (said,) = json.loads(json.dumps(results.summary.to_json()))["confirmed_by"]
    assert list(said) == ["experiment", "error", "state", "claims", "protocol"]
    assert said["claims"] == to_json(load(made.path))["confirmation"]
    for draw in (render, render_best):
        for width in (80, 200):
            text = " ".join(shown(draw, results, width=width).split())
            assert f"Confirmed with fresh seeds in {made.path}" in text
            assert f"trial 0001, validation: {CLAIM}." in text
    commands = [command for command, _ in next_commands(results)]
    assert f"kdsweep report {made.path}" in commands
    assert not any(command.startswith("kdsweep confirm") for command in commands)


def test_the_size_that_was_scored_at_stands_where_the_numbers_do(
    source: Any, confirm: Any, tmp_path: Path
) -> None:
    made = confirm(source, (0.01, 0.03, 0.02, 0.04), protocol="native")
    scored = "scored at the labels' own size"
    text = " ".join(shown(render, load(source.path), width=200).split())
    assert f"Confirmed with fresh seeds in {made.path}, {scored}" in text
    assert scored in words(write_page(load(source.path), tmp_path / "page"))
    native = load(made.path)
    assert scored in " ".join(shown(render, native, width=200).split())
    assert all(scored in table.caption for table in paper_tables(native))
    assert scored in words(write_page(native, tmp_path / "native"))


def test_the_pages_link_each_other(source: Any, confirm: Any) -> None:
    made = confirm(source, (0.01, 0.03, 0.02, 0.04))
    page = write_page(load(source.path), source.report)
    assert "kdsweep report" in words(page)  # there is no page to link yet
    other = write_page(load(made.path), made.report)
    page = write_page(load(source.path), source.report)
    for here, there in ((page, other), (other, page)):
        (address,) = re.findall(r'<a href="(\.\./[^"]*index\.html)"', here.read_text())
        assert (here.parent / address).resolve() == there.resolve()
    text = words(page)
    assert f"trial 0001 (resnet18, taught by resnet34), on the validation split: {CLAIM}." in text
    assert "One seed only" not in text
    assert "never been scored" not in text
    assert "What may be claimed of the best student is what its confirmation says." in text
    assert f"These jobs were found by {source.name}" in words(other)


def test_what_confirms_another_trial_leaves_the_warnings(
    source: Any, confirm: Any, tmp_path: Path
) -> None:
    made = confirm(source, (0.01, 0.02))
    text = made.ledger.read_bytes()
    made.ledger.unlink()
    rewritten = [json.loads(line) for line in text.splitlines()]
    for event in rewritten:
        del event["crc"]
        if event["event"] == "trial" and event["params"]:
            event["params"]["job"] = "trial 0002"
    write_plain(made.ledger, rewritten)
    found = words(write_page(load(source.path), source.report))
    assert "trial 0002 (resnet18, taught by resnet34)" in found
    assert "One seed only" in found
    assert "never been scored" in found


def test_list_and_status_name_them(source: Any, confirm: Any, tmp_path: Path) -> None:
    first = confirm(source, (0.01, 0.03))
    second = confirm(source, (0.01,), ended=False)
    seen = read_status(source.path)
    assert seen.confirmed_by == (str(first.path), str(second.path))
    assert seen.confirms is None
    assert read_status(first.path).confirms == str(source.path)
    for width in (80, 200):
        status = shown(render_status, seen, width=width)
        for other in (first, second):
            assert f"confirmed by: {other.path}\n" in status
        listed = shown(render_list, read_all_statuses(tmp_path), tmp_path, width=width)
        assert f"{source.name} is confirmed by {first.name}, {second.name}" in listed
    assert f"confirms: {source.path}" in shown(render_status, read_status(first.path))
    assert {Path(one.path).name: len(one.confirmed_by) for one in read_all_statuses(tmp_path)} == {
        source.name: 2,
        first.name: 0,
        second.name: 0,
    }
    states = [link["state"] for link in load(source.path).summary["confirmed_by"]]
    assert states == ["done", "paused"]


def test_moved_together_they_still_know_each_other(
    source: Any, confirm: Any, tmp_path: Path
) -> None:
    made = confirm(source, (0.01, 0.03))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for experiment in (source, made):
        shutil.move(experiment.path, moved)
    assert read_status(moved / source.name).confirmed_by == (str(moved / made.name),)
    assert read_status(moved / made.name).confirms == str(moved / source.name)
    shutil.rmtree(moved / source.name)
    assert load(moved / made.name).summary["confirms"] == str(source.path)  # as it was written


def test_damage_of_a_confirmation_is_no_damage_of_its_source(source: Any, confirm: Any) -> None:
    made = confirm(source, (0.01, 0.03))
    lines = made.ledger.read_bytes().splitlines(keepends=True)
    made.ledger.write_bytes(b"".join([lines[0], b"rubbish\n", *lines[1:]]))
    results = load(source.path)
    (link,) = results.summary["confirmed_by"]
    assert link["state"] == "damaged"
    assert "is damaged" in link["error"]
    assert "is damaged" in shown(render, results)
    assert "is damaged" in words(write_page(results, source.report))
    made.spec_json.write_text("[1, ")
    assert load(source.path).summary["confirmed_by"] == []


def test_claims_are_there_for_a_model_card(source: Experiment, confirm: Any) -> None:
    made = confirm(source, (0.02, 0.03, 0.025, 0.025))
    [claim, *_] = lines = _claims_of(ChosenStudent(source.trial(1), source))
    assert claim.startswith(f"Trained again in `{made.name}` (4 seeds), validation: ")
    assert "mIoU points" in claim
    assert len(lines) == 2  # validation and test
    assert _claims_of(ChosenStudent(source.trial(0), source)) == []
    of_itself = _claims_of(ChosenStudent(made.trial(0), made))
    assert of_itself[0].startswith("Over 4 seeds, validation: ")
