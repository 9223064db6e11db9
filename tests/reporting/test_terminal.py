import io
import re
from pathlib import Path

import pytest
from experiments_on_disk import results_of, shown
from rich.cells import cell_len
from rich.console import Console

from kdsweep.reporting import render, render_best
from kdsweep.reporting.columns import Column, draw, fit, print_bullet, print_facts
from kdsweep.reporting.next_steps import next_commands
from kdsweep.reporting.page.page import render_page
from kdsweep.reporting.verdict import verdict


def printed(draw_results, events, width=100, **kwargs):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        draw_results(results_of(events, **kwargs), console)
    return console.export_text()


def table(text, title):
    """The body rows of a printed table as lists of cells."""
    lines = text.split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith(title))
    rule = next(i for i in range(start, len(lines)) if lines[i].startswith("──"))
    end = next(i for i in range(rule, len(lines)) if not lines[i].strip())
    return [re.split(r"\s{2,}", line.strip()) for line in lines[rule + 1 : end]]


def test_report_shows_the_ledgers_numbers(mixed):
    text = printed(render, mixed.events, width=120)
    students = table(text, "Best students")
    assert students[0][:7] == ["1", "1", "resnet34", "resnet18", "0.550", "3", "+0.050"]
    assert students[1][:7] == ["2", "0", "none", "resnet18", "0.500", "3", "–"]
    assert students[3][:7] == ["4", "2", "resnet50", "resnet18", "0.250", "1 of 3", "-0.050"]
    pairs = table(text, "Pairs of teacher and student")
    assert pairs[1][:6] == ["none", "resnet18", "1", "0.500", "3", "–"]
    assert pairs[2][:9] == [
        "resnet50", "resnet18", "2", "0.360", "1 of 3", "+0.060", "0.305", "1 of 3", "+0.005"
    ]  # fmt: skip
    assert pairs[3][:5] == ["resnet34", "mobilenet_v2", "1", "–", "–"]
    classes = table(text, "IoU of each class: trial 1, resnet34→resnet18, epoch 2")
    assert classes[1] == ["car", "0.500", "0.400", "+0.100", "0.600"]
    assert classes[2] == ["pole", "–", "0.200", "–", "0.300"]
    assert table(text, "What failed") == [["nan", "1", "0", "3", "loss became NaN at step 7"]]
    assert "log of trial 3: trials/0003/log.txt" in text
    assert (
        "4 of 4 trials (1 complete, 1 stopped, 1 failed, 1 running) · 1 control · 8 epochs" in text
    )


def test_embedded_data_is_always_announced(mixed):
    for drawing in (render, render_best):
        assert "say nothing about real roads" in printed(drawing, mixed.events)
    for event in mixed.events:
        if event["event"] == "sweep":
            event["data"] = {"source": "camvid", "embedded": False, "notice": None}
    assert "real roads" not in printed(render, mixed.events)


def test_notes_say_what_the_numbers_do_not_show(mixed, story):
    text = " ".join(printed(render, mixed.events).split())
    assert "one training with one seed" in text
    assert "stopped early are shown with the score and epochs" in text
    # The one gain from other hyperparameters is what calls for the note.
    assert "is by itself no sign" not in text
    mixed.trial(5, control=0, train={"lr": 0.01}).run(5, [0.3])
    assert "is by itself no sign of what the teacher does" in " ".join(
        printed(render, mixed.events).split()
    )


def test_no_controls_no_gain_column(story):
    story.sweep(num_controls=0).session().trial(0).run(0, [0.4])
    text = printed(render, story.events)
    assert "gain" not in text
    assert "what the teachers changed cannot be told" in text


def test_ties_share_a_place(story):
    story.sweep().session()
    for number, value in enumerate([0.5, 0.4, 0.5]):
        story.trial(number).run(number, [value])
    text = printed(render, story.events)
    assert [row[0] for row in table(text, "Best students")] == ["1=", "1=", "3"]
    assert verdict(results_of(story.events)).ship.endswith("(equal: trial 2).")


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_tables_fit_and_keep_numbers_whole(story, width):
    story.sweep().session().trial(0, teacher=None).run(0, [0.3])
    teacher = "deeplabv3plus-tu-convnext_tiny_with_a_long_name"
    for number in range(1, 8):
        params = {"train.lr": 0.001 * number, "distill.pixel_kl.weight": 1.5 * number}
        story.trial(number, teacher=teacher, control=0, params=params).run(number, [0.1 * number])
        story.trial(number + 10).start(number + 10).fail(number + 10, "oom", "out of memory " * 20)
    text = printed(render, story.events, width=width)
    assert all(cell_len(line) <= width for line in text.split("\n") if not line.startswith("log"))
    rows = table(text, "Best students")
    assert len(rows) == 8
    assert "0.700" in rows[0]
    assert "+0.400" in rows[0]
    assert ("0.007" in rows[0]) == (width >= 120)


def test_hostile_names_stay_text(story):
    story.sweep(name="[bold]x[/bold]", data={"classes": ["[red]road[/red]", "a\x1b[31mb\nc", "ok"]})
    story.session().trial(0, student="[link=http://x]evil[/link]")
    story.run(0, [0.4], classes={"student": [0.1, 0.2, 0.3]})
    story.trial(1).start(1).fail(1, "error", "[/] unbalanced [markup")
    text = printed(render, story.events, width=160)
    for name in ("[bold]x[/bold]", "[red]road[/red]", "a·[31mb c", "[link=http://x]evil[/link]"):
        assert name in text
    assert "[/] unbalanced [markup" in text
    assert "\x1b" not in text


def test_other_metrics_are_named(story):
    story.sweep(metric="student/pixel_accuracy").session().trial(0).run(0, [0.9])
    text = printed(render, story.events)
    assert "student/pixel_accuracy" in text
    assert "mIoU" not in text


def test_lines_end_between_facts_and_remarks_hang_below_their_first_word():
    console = Console(file=io.StringIO(), width=30)
    print_facts(console, ["14 of 14 trials", "2 controls", "5.8 min in 1 session"])
    print_bullet(console, "A gain against a shared control")
    assert console.file.getvalue().splitlines() == [
        "14 of 14 trials · 2 controls",
        "5.8 min in 1 session",
        "· A gain against a shared",
        "  control",
    ]


@pytest.mark.parametrize("drawing", [render, render_best])
def test_nothing_to_show_is_said(story, drawing):
    assert "No trial has finished an epoch" in printed(drawing, [])
    story.sweep().session().trial(0).start(0).fail(0, "error", "boom")
    text = printed(drawing, story.events)
    assert "Every trial failed before its first epoch was finished" in text
    assert ("boom" in text) == (drawing is render)


def test_next_commands_fit_the_state(mixed):
    folder = Path.cwd() / "experiments" / "my sweep"
    running = next_commands(results_of(mixed.events, folder=folder))
    assert running == [
        ("kdsweep report 'experiments/my sweep'", "all tables, also as files"),
        (
            "kdsweep train 'experiments/my sweep/trials/0001/job.yaml'",
            "train the best trial again",
        ),
    ]
    mixed.add("pause", reason="sigint")
    paused = next_commands(results_of(mixed.events, folder=folder))
    assert paused[0][0] == "kdsweep resume 'experiments/my sweep'"
    assert paused[1:] == running
    assert paused[0][0] in printed(render_best, mixed.events, width=40, folder=folder)


def test_training_again_on_a_cpu_takes_the_threads_of_the_sweep(story):
    story.sweep().session(gpus=0, cpus_per_trial=3).trial(1).start(1).epoch(1, 1, 0.5)
    story.add("pause", reason="sighup")
    results = results_of(story.events, folder=Path.cwd() / "experiments" / "x")
    commands = [command for command, _ in next_commands(results)]
    assert "kdsweep train experiments/x/trials/0001/job.yaml --threads 3" in commands
    assert "paused (interrupted: its terminal was closed)" in printed(render, story.events)


def test_least_wanted_columns_go_first_then_names_shrink():
    columns = [
        Column("name", ["abcdefghijklmnop"], text=True, least=6),
        Column("a", ["1111"], keep=2),
        Column("b", ["2222"], keep=1),
        Column("c", ["3333"]),
    ]
    assert [c.header for c, _ in fit(columns, 34)] == ["name", "a", "b", "c"]
    assert [(c.header, w) for c, w in fit(columns, 33)] == [
        ("name", 15), ("a", 4), ("b", 4), ("c", 4)
    ]  # fmt: skip
    assert [(c.header, w) for c, w in fit(columns, 20)] == [("name", 8), ("a", 4), ("c", 4)]
    assert [(c.header, w) for c, w in fit(columns, 13)] == [("name", 7), ("c", 4)]
    assert [line.plain for line in draw("t", columns, 13)] == [
        "t",
        "name        c",
        "─" * 13,
        "abcdef…  3333",
    ]


@pytest.mark.parametrize("width", [80, 200])
def test_terms_are_shown_with_what_is_wrong_with_them(distilled, width):
    text = printed(render, distilled.events, width=width)
    rows = table(text, "What each distillation term does")
    assert [row[0] for row in rows] == ["1", "1", "2"]
    assert {"pixel_kl", "1.6", "30", "25", "70"} <= set(rows[0])
    assert {"attention", "0.4", "negligible"} <= set(rows[1])
    assert rows[2][-1] == "weight at 25 %"
    assert "less than 1 % of the student's gradient" in " ".join(text.split())


def test_terms_are_not_mentioned_where_there_are_none(mixed):
    assert "distillation term" not in printed(render, mixed.events)


def test_what_a_given_teacher_scores_stands_in_the_head(new_story):
    """On the page too, and what is doubtful of it where the answer stands."""
    teacher = {"checkpoint": "best", "label": "resnet50", "num_frames": 9, "num_classes": 11}
    data = {"source": "folder", "num_train": 6, "num_val": 9, "num_unlabelled": 2}

    def told(miou, own):
        data["teachers"] = [{**teacher, "miou": miou, "own_miou": own}]
        story = new_story().sweep(data=data).session().trial(0).run(0, [0.5])
        results = results_of(story.events)
        text = " ".join(shown(render, results, width=200).split())
        return text.partition("Best students")[0], render_page(results)

    head, page = told(0.433, 0.441)
    said = "resnet50 from best scores mIoU 0.433 on the 9 validation frames"
    assert "6 labelled and 2 unlabelled training, 9 validation frames" in head
    assert f"teacher: {said}" in head
    assert "trained teacher" in page
    assert said in page
    assert "encoder_pixels" not in head + page
    for part in told(0.32, 0.441):
        assert "mIoU 0.320 on the 9 validation frames, its own card says 0.441; is it tr" in part
