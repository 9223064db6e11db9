"""What a user reads when a change from the command line is wrong, word for word."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Message = Callable[..., str]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            "train.epochs=abc",
            """\
--set train.epochs=abc: train.epochs: not a whole number
  value:   'abc'
  allowed: a whole number > 0""",
        ),
        (
            "train.epoch=3",
            """\
--set train.epoch=3: train.epoch: unknown key
  value:   'epoch'
  allowed: epochs, warmup_epochs, teacher, batch_size, accumulate, lr, optimizer, weight_decay, \
momentum, schedule, clip_norm, supervised, unlabelled_ratio, precision, channels_last, \
compile, validate_at, select, seed, student
  try:     did you mean `epochs`?""",
        ),
        (
            "train.epochs",
            """\
--set train.epochs: not of the form path=value
  allowed: for example train.epochs=4""",
        ),
        (
            "train..epochs=4",
            """\
--set train..epochs=4: not a path
  value:   'train..epochs'
  allowed: keys joined by dots, list items as [0]""",
        ),
        (
            "train.epochs=[1",
            """\
--set train.epochs=[1: not valid YAML: expected ',' or ']', but got the end
  value:   '[1'
  try:     close the bracket opened in line 1, or add the missing comma""",
        ),
        (
            "train.epochs.x=1",
            """\
--set train.epochs.x=1: train.epochs.x: `train.epochs` has nothing below it
  allowed: a whole number > 0""",
        ),
        (
            "student.encoder.name=resnet50",
            """\
--set student.encoder.name=resnet50: student.encoder.name: `student.encoder` is a range here
  value:   {values: [resnet18, mobilenet_v2]}
  try:     set a part of the range, such as student.encoder.values[0], or student.encoder as a \
whole""",
        ),
        (
            "student.encoder.values[2]=resnet50",
            """\
--set student.encoder.values[2]=resnet50: student.encoder.values[2]: there is no such item
  allowed: 0 to 1""",
        ),
        (
            "distill.hint.taps[0]=encoder.4",
            """\
--set distill.hint.taps[0]=encoder.4: distill.hint.taps[0]: there is no list here yet
  try:     set all of distill.hint.taps""",
        ),
        (
            "train.lr.min=1",
            """\
--set train.lr.min=1: train.lr: min must be less than max
  value:   {min: 1, max: 0.01}
  try:     swap the two""",
        ),
    ],
)
def test_errors_in_set(message: Message, change: str, text: str) -> None:
    assert message(overrides=[change]) == text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            "camvi=/x",
            """\
--data camvi=/x: unknown source
  value:   'camvi'
  allowed: camvid, roadscenes, lyft, cityscapes, folder
  try:     did you mean `camvid`?""",
        ),
        (
            "camvid",
            """\
--data camvid: not of the form SOURCE=PATH
  allowed: for example camvid=~/camvid""",
        ),
    ],
)
def test_errors_in_data(message: Message, change: str, text: str) -> None:
    assert message(data=[change]) == text


def test_a_data_section_that_is_a_range_has_no_one_source(message: Message) -> None:
    old = "data: {source: roadscenes, image_size: [64, 96]}"
    assert message(old, "data: {values: [{source: lyft}]}", data=["camvid=/x"]) == (
        """\
--data camvid=/x: data: `data` is a range here, so there is no one source to replace
  try:     set it as a whole: --set 'data={source: …, path: …, image_size: […]}'"""
    )
