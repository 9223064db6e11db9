"""The answer in one line, and what is made of it to share."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from experiments_on_disk import results_of
from PIL import Image

from kdsweep.reporting import write_page
from kdsweep.reporting.brief import doubts, headline
from kdsweep.reporting.figures import class_ious, grouped, networks
from kdsweep.reporting.page.rows import class_rows
from kdsweep.reporting.picture import draw_summary


def sweep(story: Any, *values: float, control: float | None = 0.4, **more: Any) -> Any:
    """Taught trials from number 1 on, beside one control."""
    story.sweep(trials=len(values)).session()
    if control is not None:
        story.trial(0, teacher=None).run(0, [control, control])
    for number, value in enumerate(values, start=1):
        story.trial(number, control=None if control is None else 0)
        story.run(number, [value, value], **more)
    return story.add("done")


@pytest.mark.parametrize(
    ("values", "control", "end"),
    [
        ((0.41, 0.45), 0.4, "0.450 mIoU; 0.050 ahead of the same student without a teacher, in one "
         "training each"),
        ((0.31, 0.35), 0.4, "0.400 mIoU; no teacher did better"),
        ((0.31, 0.35), None, "0.350 mIoU; what its teacher added is not known"),
        ((), 0.4, "0.400 mIoU; what a teacher would add is not known"),
    ],
)  # fmt: skip
def test_the_answer_is_one_line(
    values: tuple[float, ...], control: float | None, end: str, story: Any
) -> None:
    said = headline(results_of(sweep(story, *values, control=control).events), "mIoU")
    assert said is not None
    assert said.startswith("resnet18, ")
    assert said.endswith(end)


def test_what_is_shared_lies_beside_the_page(story: Any, tmp_path: Path) -> None:
    results = results_of(sweep(story, 0.45).events)
    write_page(results, tmp_path)
    said = headline(results, "mIoU")
    text = (tmp_path / "summary.md").read_text()
    assert f"**{said}.**" in text
    assert "](summary.png)" in text
    doubt = doubts(results)[0]
    assert f"> {doubt}" in text
    assert "| 1 | resnet34→resnet18 | 0.450 | 2 |" in text
    with Image.open(tmp_path / "summary.png") as picture:
        assert picture.size == (1200, 675)
    page = (tmp_path / "index.html").read_text()
    assert f'<p class="headline">{said}</p>' in page
    assert page.index(doubt) < page.index('data-figure="accuracy-size"')
    assert page.index('data-figure="accuracy-size"') < page.index("The answer in full")
    assert page.count('data-figure="accuracy-size"') == 1
    write_page(results_of([]), tmp_path)
    assert not (tmp_path / "summary.png").exists()
    assert "There is no answer yet" in (tmp_path / "summary.md").read_text()


def test_the_picture_shows_students_and_controls(story: Any) -> None:
    table = networks(results_of(sweep(story, 0.45).events))

    def colours(shown: pd.DataFrame) -> set[tuple[int, ...]]:
        drawn = draw_summary(shown, "tiny", "said", "doubt " * 80, "mIoU")
        picture = Image.open(io.BytesIO(drawn)).convert("RGB")
        return {colour for _, colour in picture.getcolors(1 << 24) or ()}

    student, control = (0, 0x72, 0xB2), (0, 0x8F, 0x68)
    assert {student, control} <= colours(table)
    assert control not in colours(table[table["role"] == "student"])
    assert {student, control}.isdisjoint(colours(table[:0]))


def test_a_control_beside_a_teacher_is_not_shown_with_that_teacher(story: Any) -> None:
    story.sweep(trials=1, data={"source": "own", "classes": ["road", "pole"]}).session()
    for number, teacher, last in ((0, "resnet34", 0.3), (1, None, 0.5)):
        found = {"student": [last, last], "teacher": [0.9, 0.8]}
        story.trial(number, teacher=teacher).run(number, [0.2, last], teacher=0.7, classes=found)
    results = results_of(story.add("done").events)
    assert results.best_classes()["student"].tolist() == [0.5, 0.5]
    assert results.best_classes()["teacher"].isna().all()
    assert set(results.classes["teacher"]) == {0.9, 0.8}


def test_classes_that_nobody_finds_are_one_row(story: Any) -> None:
    names = ["road", "pole", "sign", "bike"]
    story.sweep(trials=1, data={"source": "own", "classes": names}).session()
    found = {"student": [0.9, 0.0, 0.0, 0.0], "teacher": [0.9, 0.0, 0.0001, 0.2]}
    story.trial(0).run(0, [0.2, 0.4], teacher=0.7, classes=found)
    results = results_of(story.add("done").events)
    rows, missed = grouped(class_ious(results))
    assert rows["class"].tolist() == ["road", "bike", "2 classes at 0"]
    assert missed == ["pole", "sign"]
    table = class_rows(results)
    assert [row[0].text for row in table.rows] == ["road", "bike", "2 classes at 0"]
    assert "pole, sign" in table.note
    assert len(class_ious(results)) == 4
