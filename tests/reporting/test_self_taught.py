"""What reports say where students also learn from frames without labels, and from themselves."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from experiments_on_disk import results_of, shown, write
from rich.console import Console

from kdsweep.ledger import iter_ledger
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import Trial
from kdsweep.reporting import (
    Results,
    load,
    read_status,
    render,
    render_status,
    to_json,
    write_page,
    write_tables,
)
from kdsweep.reporting.caveats import notes, warnings_of
from kdsweep.reporting.compare import compare, remarks
from kdsweep.reporting.confirmation import claims_in
from kdsweep.reporting.figures.confirmed import confirmed_figures, confirmed_gains
from kdsweep.reporting.figures.cost import networks
from kdsweep.reporting.figures.pairs import pair_figures
from kdsweep.reporting.figures.shares import share_figures
from kdsweep.reporting.figures.training import curves, training_figures
from kdsweep.reporting.page.answer import cards
from kdsweep.reporting.page.rows import pair_rows, trial_rows
from kdsweep.reporting.verdict import verdict

FRAMES = {"source": "roadscenes", "num_train": 163, "num_unlabelled": 204, "num_val": 48}
SPLIT = "163 labelled and 204 unlabelled"


def story_of(
    story: Any,
    taught: float = 0.346,
    plain: float = 0.289,
    own: float = 0.306,
    teacher: float = 0.41,
    took: tuple[float, float] = (0.0, 0.0),
) -> Any:
    """A control, a self-taught one, and a trial beside both; each at its best in epoch 2 of 3."""
    story.sweep(data=FRAMES, num_controls=2, trials=1, further_controls=["self"]).session()
    story.trial(0, teacher=None).trial(1, teacher=None, own=True)
    story.trial(2, control=0, further={"self": 1})
    for number, value, seconds in ((0, plain, took[0]), (1, own, 9.0), (2, taught, took[1])):
        score = {"teacher": teacher} if number == 2 else {}
        rest = [value - 0.1, value, value - 0.05]
        story.run(number, rest, took=seconds, **score)
    return story


def drawn(results: Results, width: int = 200) -> str:
    out = io.StringIO()
    render(results, Console(file=out, width=width))
    return " ".join(out.getvalue().split())


def test_a_trial_is_compared_with_both_at_equal_epochs(story: Any) -> None:
    results = results_of(story_of(story).events)
    (row,) = to_json(results)["gains"]
    assert (row["control"], row["self_control"]) == (0, 1)
    assert (row["self_value"], row["gain"]) == pytest.approx((0.306, 0.057))
    assert row["self_gain"] == pytest.approx(0.040)
    own = results.trials.set_index("number")["self_gain"]
    assert own[2] == pytest.approx(0.040)
    assert own[[0, 1]].isna().all()


def test_a_self_taught_control_that_has_not_come_as_far_gives_no_gain(new_story: Any) -> None:
    story = new_story().sweep(data=FRAMES, further_controls=["self"]).session()
    story.trial(0, teacher=None).run(0, [0.2, 0.3])
    story.trial(1, teacher=None, own=True).run(1, [0.25], stop=None)
    story.trial(2, control=0, further={"self": 1}).run(2, [0.2, 0.4])
    (row,) = to_json(results_of(story.events))["gains"]
    assert row["gain"] == pytest.approx(0.1)
    assert row["self_gain"] is row["self_value"] is None
    assert "own average" not in str(verdict(results_of(story.events)))


def test_without_such_controls_no_column_speaks_of_them(mixed: Any, tmp_path: Path) -> None:
    results = results_of(mixed.events)
    names = {*results.gains, *results.trials, *results.confirmation}
    assert not {"self_control", "self_value", "self_gain", "against", "confident"} & names
    write_tables(results, tmp_path)
    assert not any("self" in path.read_text() for path in tmp_path.glob("*.md"))


def test_the_answer_tells_the_teacher_from_the_frames(story: Any) -> None:
    answer = verdict(results_of(story_of(story).events))
    assert answer is not None
    assert "0.346 on the validation split" in answer.ship
    assert answer.ship.endswith(f"trained on {SPLIT} frames.")
    assert answer.teacher.startswith(
        "With its teacher it was 0.057 ahead of the same student without one (trial 0) and 0.040 "
        "ahead of the same student taught by its own average, on the same unlabelled frames "
        "(trial 1), within as many epochs (3), in one training each, which is no proof"
    )


def test_all_writers_show_the_second_gain(story: Any, tmp_path: Path) -> None:
    results = results_of(story_of(story).events)
    assert "gain over self-taught" in drawn(results)
    table = trial_rows(results, "mIoU")
    place = [name for name, *_ in table.headers].index("gain over self-taught")
    assert [row[place].text for row in table.rows] == ["+0.040", "–", "–"]
    write_tables(results, tmp_path)
    assert "self_gain" in (tmp_path / "gains.csv").read_text().split("\n")[0]
    assert "30.6" in (tmp_path / "gains.md").read_text()
    assert any("the teacher's part" in note for note in notes(results))
    differences = [card.value for card in cards(results, "mIoU") if card.name == "difference"]
    assert differences == ["+0.057", "+0.040"]


def test_the_frames_are_told_everywhere(story: Any, tmp_path: Path) -> None:
    experiment = write(tmp_path, story_of(story))
    results = load(experiment.path)
    assert f"{SPLIT} training, 48 validation frames" in drawn(results)
    assert f"{SPLIT} training, 48 validation frames" in write_page(
        results, experiment.report
    ).read_text(encoding="utf-8")


@pytest.mark.parametrize("best", ["own", "plain"])
def test_a_student_without_a_teacher_that_is_best_is_called_what_it_is(
    story: Any, tmp_path: Path, best: str
) -> None:
    experiment = write(tmp_path, story_of(story, taught=0.30, **{best: 0.36}))
    results = load(experiment.path)
    answer = verdict(results)
    assert answer is not None
    own = best == "own"
    called = "resnet18 taught by its own average" if own else "resnet18 without a teacher"
    wrong = "resnet18 without a teacher" if own else "resnet18 taught by its own average"
    status = read_status(experiment.path)
    live = Sweep(iter_ledger(experiment.ledger)).best()
    assert live is not None
    assert live.title == called
    for said in (answer.ship, drawn(results), shown(render_status, status, width=200)):
        assert called in said
        assert wrong not in said
    assert results.summary.best is not None
    assert results.summary.best.teacher == ("itself" if own else None)
    card = next(card for card in cards(results, "mIoU") if card.name == "teacher")
    assert card.value == ("itself" if own else "none")
    figure = next(f for f in training_figures(results, "mIoU") if f.name == "best-cohort")
    assert ("from its own average" in figure.caption) is own
    if own:
        assert answer.ship.endswith(f"trained on {SPLIT} frames.")
        assert answer.teacher.startswith(
            "Taught by its own average it was 0.071 ahead of the same student without a teacher "
            "(trial 0) within as many epochs (3)"
        )
        # Behind the self-taught student, not behind the one without a teacher.
        assert "trial 2 (resnet34→resnet18) was 0.060 behind it" in answer.teacher
    else:
        assert answer.ship.endswith("trained on the 163 labelled frames alone.")
    assert answer.settling is not None
    assert answer.settling.trial == 2


def test_pairs_and_networks_keep_the_two_controls_apart(story: Any) -> None:
    results = results_of(story_of(story).events)
    pairs = pair_rows(results, "mIoU")
    names = [name for name, *_ in pairs.headers]
    rows = {
        row[names.index("teacher")].text: row[names.index("best mIoU")].text for row in pairs.rows
    }
    assert rows == {"resnet34": "0.346", "itself": "0.306", "none": "0.289"}
    (gains,) = (f for f in pair_figures(results, "mIoU") if f.name == "pair-gains")
    assert gains.layout["xaxis"]["ticktext"] == ["resnet34"]
    found = networks(results).set_index("role")["best"]
    assert (found["control"], found["self-taught"]) == (0.289, 0.306)
    assert "itself" not in set(networks(results)["name"])
    assert results.summary.num_teachers == 1
    roles = curves(results).drop_duplicates("trial").set_index("trial")["role"]
    assert roles.to_dict() == {2: "best", 0: "control", 1: "self-taught"}


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        (0.41, "The teacher was 0.121 ahead of the control."),
        (0.289, "The teacher was level with the control."),
        (0.28, "The teacher was 0.009 behind the control."),
    ],
)
def test_the_teachers_lead_is_told(story: Any, teacher: float, said: str) -> None:
    results = results_of(story_of(story, teacher=teacher).events)
    answer = verdict(results)
    assert answer is not None
    assert answer.teacher.endswith(said)
    assert answer.lead == pytest.approx(teacher - 0.289)
    row = to_json(results)["trials"][2]
    assert row["lead"] == to_json(results)["gains"][0]["lead"] == pytest.approx(teacher - 0.289)
    caveat = (
        f"the teacher was not ahead of the student without it ({teacher:.3f} against 0.289): "
        "there was nothing to learn"
    )
    for texts in (notes(results), warnings_of(results)):
        assert any(caveat in text for text in texts) is (teacher < 0.41)


def test_a_lead_is_that_of_the_students_best_epoch(story: Any) -> None:
    story.sweep(num_controls=1, trials=1).session().trial(0, teacher=None).run(0, [0.1, 0.2, 0.6])
    story.trial(1, control=0).start(1)
    for epoch, value, teacher in ((1, 0.3, 0.9), (2, 0.5, 0.55)):
        story.epoch(1, epoch, value, teacher=teacher)
    # The control's third epoch came too late.
    (row,) = to_json(results_of(story.events))["gains"]
    assert row["lead"] == pytest.approx(0.55 - 0.2)


def test_the_answer_says_what_the_pair_took(story: Any) -> None:
    results = results_of(story_of(story, took=(10.0, 25.0)).events)
    answer = verdict(results)
    assert answer is not None
    assert answer.time_ratio == pytest.approx(2.5)
    assert answer.teacher.endswith("The pair took 2.50 times as long as its control.")
    assert to_json(results)["answer"]["time_ratio"] == pytest.approx(2.5)


def test_time_is_compared_over_as_many_epochs_and_only_of_who_trained_alone(story: Any) -> None:
    story.sweep(num_controls=1, trials=3).session().trial(0, teacher=None).start(0)
    for epoch, seconds in ((1, 10.0), (2, 10.0), (3, 100.0)):
        story.epoch(0, epoch, 0.3, took=seconds)
    story.trial(1, control=0).start(1)
    # The first epoch holds the teacher's head start; an epoch told twice counts once.
    for epoch, seconds in ((1, 40.0), (2, 99.0), (2, 30.0)):
        story.epoch(1, epoch, 0.4, took=seconds)
    story.trial(2, control=0).trial(3, control=0, rides_with=2)
    story.run(2, [0.3], took=50.0).run(3, [0.3], took=50.0)
    rows = to_json(results_of(story.events))["gains"]
    assert [row["time_ratio"] for row in rows] == [pytest.approx(3.5), None, None]


def test_a_paired_control_tells_nothing_of_time(story: Any) -> None:
    story.sweep(controls="paired", num_controls=1, trials=1).session()
    story.trial(0, control=1).trial(1, teacher=None, rides_with=0)
    story.run(1, [0.3], took=50.0).run(0, [0.4], took=50.0)
    answer = verdict(results_of(story.events))
    assert answer is not None
    assert "time_ratio" not in answer.to_json()


def confirmation(story: Any, until_settled: bool = False, failed: int | None = None) -> Results:
    """Six seeds: far above the control without a teacher, level with the self-taught one."""
    asked = {"until_settled": True} if until_settled else {}
    story.sweep(trials=6, num_controls=12, epochs=1, controls="paired", **asked)
    story.session(slots=9)
    for seed in range(6):
        number = 3 * seed
        drawn = {"job": "trial 0007", "train.seed": seed}
        story.trial(number, control=number + 1, params=drawn, further={"self": number + 2})
        story.trial(number + 1, teacher=None, rides_with=number)
        story.trial(number + 2, teacher=None, own=True, rides_with=number)
        luck = (1e-4, -2e-4, 3e-4, -1e-4, 2e-4, -3e-4)[seed]
        for trial, value in ((number + 1, 0.40), (number + 2, 0.45), (number, 0.45 + luck)):
            if trial == failed:
                story.start(trial).fail(trial, "nan", "loss became NaN")
            else:
                story.run(trial, [value], test=value - 0.1)
    return results_of(story.events)


def test_a_confirmation_compares_with_both(story: Any) -> None:
    results = confirmation(story)
    claims = claims_in(results.confirmation)
    assert [(one.split, one.against) for one in claims] == [
        ("validation", "no teacher"),
        ("validation", "itself"),
        ("test", "no teacher"),
        ("test", "itself"),
    ]
    plain, own = claims[:2]
    assert (plain.gain, own.gain) == pytest.approx((0.05, 0.0))
    assert (plain.control_mean, own.control_mean) == pytest.approx((0.40, 0.45))
    assert plain.mean == own.mean
    assert plain.claim.startswith("against the same student without a teacher, +5.0 mIoU points")
    assert own.claim.startswith("against the same student taught by its own average, no gain")
    assert (plain.verdict, own.verdict) == ("gain", "no difference that matters")
    assert to_json(results)["confirmation"][1]["against"] == "itself"
    assert any(note.startswith("against itself") for note in notes(results))
    text = drawn(results, 240)
    assert "trial 0007, validation: against the same student taught by its own average" in text
    names = [card.name for card in cards(results, "mIoU")]
    assert len(names) == len(set(names)) == 6
    assert "gain, validation, against itself" in names
    (figure,) = confirmed_figures(results, "mIoU")
    assert figure.layout["yaxis"]["ticktext"] != []
    assert len(confirmed_gains(results)) == 4
    places = {y for trace in figure.traces for y in trace["y"]}
    assert len(places) == 4


def test_a_seed_without_its_self_taught_control_counts_against_the_other(story: Any) -> None:
    results = confirmation(story, failed=5)
    assert [one.seeds for one in claims_in(results.confirmation)] == [6, 5, 6, 5]


def test_what_is_settled_is_told_of_each_control(story: Any) -> None:
    claims = claims_in(confirmation(story, until_settled=True).confirmation)
    assert claims[0].claim.startswith(
        "against the same student without a teacher, a gain, settled after 5 seeds"
    )
    assert claims[1].claim.startswith(
        "against the same student taught by its own average, no difference that matters"
    )
    assert claims[1].to_json()["against"] == "itself"


def test_a_search_over_self_taught_students_says_so(story: Any) -> None:
    story.sweep(data=FRAMES, num_controls=1, trials=1).session()
    story.trial(0, teacher=None).run(0, [0.2, 0.3])
    story.trial(1, teacher=None, own=True, control=0).run(1, [0.2, 0.35])
    drawn = next(e for e in story.events if e["event"] == "trial" and e["trial"] == 1)
    drawn["kind"] = "search"
    results = results_of(story.events)
    answer = verdict(results)
    assert answer is not None
    assert "resnet18 taught by its own average, trial 1" in answer.ship
    assert "Taught by its own average and other settings it was" not in answer.teacher
    assert "Taught by its own average it was 0.050 ahead of the same student without a teacher" in (
        answer.teacher
    )
    assert answer.settling is answer.lead is None
    assert results.summary.num_teachers == 0


@pytest.mark.parametrize(
    ("distill", "by"),
    [
        ({"teacher": "self", "pixel_kl": {"weight": 1.0}}, "itself"),
        ({"teacher": "self", "pixel_kl": {"weight": 0.0}}, None),
        ({"teacher": "self", "pixel_kl": None}, None),
        ({"teacher": "online", "pixel_kl": None}, None),
        ({}, None),
    ],
)
def test_who_teaches_is_read_from_the_job(distill: dict[str, Any], by: str | None) -> None:
    job = {"teacher": None, "distill": distill}
    trial = Trial(0, "control", "control r", "r", None, {}, job)
    assert trial.taught_by == by


def test_experiments_with_other_unlabelled_frames_are_told_apart(
    tmp_path: Path, new_story: Any
) -> None:
    labelled = {key: value for key, value in FRAMES.items() if key != "num_unlabelled"}
    folders = [
        write(tmp_path, story_of(new_story()), "with").path,
        write(
            tmp_path, new_story().sweep(data=labelled).session().trial(0).run(0, [0.3]), "without"
        ).path,
    ]
    said = " ".join(remarks(compare(folders)))
    told = re.search(r"Not the same number of unlabelled frames \((.*?)\)", said)
    assert told is not None
    assert re.findall(r": (\S+?)(?:,|$)", told[1]) == ["204", "0"]
    assert "Not the same number of unlabelled" not in " ".join(remarks(compare(folders[1:])))


def unlabelled(story: Any) -> Results:
    story.sweep(data=FRAMES).session().trial(0, teacher=None).run(0, [0.30, 0.50, 0.45])
    story.trial(1, control=0).start(1)
    for epoch in (1, 2, 3):
        terms = {"pixel_kl": (0.9, 0.30, 1.0), "unlabelled/pixel_kl": (0.02, 0.002, 1.0)}
        story.epoch(1, epoch, 0.5 + epoch / 100, terms=terms, costs={"student/confident": 0.63})
    return results_of(story.events)


def test_a_term_on_unlabelled_frames_is_a_term_of_its_own(story: Any) -> None:
    results = unlabelled(story)
    terms = results.terms.set_index("term")
    assert list(terms.index) == ["pixel_kl", "unlabelled/pixel_kl"]
    assert terms["verdict"].fillna("").tolist() == ["", "negligible"]
    assert terms["labels_share"].tolist() == pytest.approx([0.698, 0.698])
    assert "pixel_kl, unlabelled" in drawn(results)
    assert "unlabelled/pixel_kl" not in drawn(results)
    said = " ".join(warnings_of(results))
    assert "In the best trial, pixel_kl on unlabelled frames gives less than 1 %" in said
    shares, course = share_figures(results, "mIoU")
    assert shares.layout["yaxis"]["ticktext"] == ["pixel_kl", "pixel_kl, unlabelled"]
    assert "pixel_kl, unlabelled" in [trace["name"] for trace in course.traces]


def test_the_share_of_confident_pixels_is_shown(story: Any) -> None:
    results = unlabelled(story)
    assert to_json(results)["trials"][1]["confident"] == 0.63
    headers = [name for name, *_ in trial_rows(results, "mIoU").headers]
    assert "confident" in headers
    assert "confident" in drawn(results, 300)
