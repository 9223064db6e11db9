"""The errors a user is most likely to meet, word for word."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kdsweep.config import load_job

Message = Callable[..., str]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        pytest.param(
            "temperature",
            "temprature",
            """\
space.yaml:10: distill.pixel_kl.temprature: unknown key
  value:   'temprature'
  allowed: temperature, weight, ramp, warmup_epochs, until_epoch, stride, standardize
  try:     did you mean `temperature`?""",
            id="a slip in a key",
        ),
        pytest.param(
            "sweep:",
            "swep:",
            """\
space.yaml:14: swep: unknown key
  value:   'swep'
  allowed: sweep, name, data, teacher, student, distill, train, resources, tracking
  try:     did you mean `sweep`?""",
            id="a slip in a section",
        ),
        pytest.param(
            "  encoder: {values: [resnet18, mobilenet_v2]}",
            "  encoder: resnet18\n  lr: 0.1",
            """\
space.yaml:7: student.lr: unknown key
  value:   'lr'
  allowed: arch, encoder, encoder_weights, encoder_pixels, options
  try:     `lr` belongs at train.lr or train.teacher.lr or train.student.lr""",
            id="a key in the wrong section",
        ),
        pytest.param(
            "[64, 96]",
            "[64, 96], hood_void: true",
            """\
space.yaml:3: data.hood_void: unknown key
  value:   'hood_void'
  allowed: source, path, image_size, classes, accept, image_bits, crop, crop_scale, augment, \
augment_on, num_classes, num_train, … (26 in all)
  try:     only with source: lyft""",
            id="a key of another source",
        ),
        pytest.param(
            "roadscenes",
            "roadscene",
            """\
space.yaml:3: data.source: unknown source
  value:   'roadscene'
  allowed: roadscenes, lyft, camvid, cityscapes, folder
  try:     did you mean `roadscenes`?""",
            id="a slip in the source",
        ),
        pytest.param(
            "source: roadscenes, ",
            "",
            """\
space.yaml:3: data.source: missing
  allowed: roadscenes, lyft, camvid, cityscapes, folder""",
            id="no source",
        ),
        pytest.param(
            "  epochs: 4\n",
            "",
            """\
space.yaml:11: train.epochs: missing
  allowed: a whole number > 0""",
            id="a missing key",
        ),
        pytest.param(
            "epochs: 4",
            "epochs: 4\n  epochs: 5",
            """\
space.yaml:13: train.epochs: this key stands twice; it is in line 12 already
  try:     take one of the two out""",
            id="a key twice",
        ),
        pytest.param(
            "epochs: 4",
            'epochs: 4\n  weight_decay: "1e-4 "',
            """\
space.yaml:13: train.weight_decay: not a number
  value:   '1e-4 '
  allowed: a number ≥ 0
  try:     write it without quotes: 1e-4""",
            id="a number in quotes",
        ),
        pytest.param(
            "epochs: 4",
            "epochs: 4.0",
            """\
space.yaml:12: train.epochs: not a whole number
  value:   4.0
  allowed: a whole number > 0
  try:     write 4""",
            id="a fraction",
        ),
        pytest.param(
            "epochs: 4",
            "epochs: 4\n  optimizer: AdamW",
            """\
space.yaml:13: train.optimizer: not one of the allowed names
  value:   'AdamW'
  allowed: adamw, adam, sgd
  try:     did you mean `adamw`?""",
            id="a name",
        ),
        pytest.param(
            "trials: 8",
            "metric: student/mio",
            """\
space.yaml:14: sweep.metric: not one of the allowed names
  value:   'student/mio'
  allowed: one of student/miou, student/pixel_accuracy, student/seed_compat_iou or a list of 1 or \
more, each one of student/miou, student/pixel_accuracy, student/seed_compat_iou, \
student/params_m, student/macs_g, student/latency_ms, student/latency_p95_ms, student/inference_mb
  try:     did you mean `student/miou`?""",
            id="a name beside a list of names",
        ),
        pytest.param(
            "epochs: 4",
            "epochs: 4\n  compile: yes",
            """\
space.yaml:13: train.compile: neither true nor false
  value:   'yes'
  allowed: true or false or one of default, reduce-overhead, max-autotune
  try:     write true""",
            id="yes for true",
        ),
        pytest.param(
            "epochs: 4",
            "epochs: 4\n  compile: reduce_overhead",
            """\
space.yaml:13: train.compile: not one of the allowed names
  value:   'reduce_overhead'
  allowed: true or false or one of default, reduce-overhead, max-autotune
  try:     did you mean `reduce-overhead`?""",
            id="a name beside true and false",
        ),
        pytest.param(
            "  encoder: {values: [resnet18, mobilenet_v2]}",
            "  values: [resnet18, {encoder: mobilenet_v2}]",
            """\
space.yaml:6: student.values[0]: not a mapping
  value:   'resnet18'
  allowed: a mapping with the keys arch, encoder, encoder_weights, encoder_pixels, options
  try:     did you mean {encoder: resnet18}?""",
            id="an encoder for a network",
        ),
        pytest.param(
            "distill:",
            "distill:\n  hint: 0.5",
            """\
space.yaml:8: distill.hint: not a mapping
  value:   0.5
  allowed: a mapping with the keys weight, ramp, warmup_epochs, until_epoch, taps, normalize or \
null
  try:     did you mean {weight: 0.5}?""",
            id="a weight for a loss",
        ),
        pytest.param(
            "distill:",
            "distill:\n  hint:",
            """\
space.yaml:8: distill.hint: nothing behind this key
  try:     write {} for its defaults, or null to do without""",
            id="a section left empty",
        ),
        pytest.param(
            "[64, 96]",
            "64",
            """\
space.yaml:3: data.image_size: not a list
  value:   64
  allowed: a list of 2, each a whole number > 0
  try:     write a list: [64, 64]""",
            id="one side for both",
        ),
        pytest.param(
            "distill:",
            "distill:\n  dkd: {temperature: [1, 2, 4]}",
            """\
space.yaml:8: distill.dkd.temperature: not a number
  value:   [1, 2, 4]
  allowed: a number > 0
  try:     to try each of them: {values: [1, 2, 4]}""",
            id="a list for a choice",
        ),
        pytest.param(
            "[64, 96]",
            "[64, 96], split: {val: 0,25}",
            """\
space.yaml:3: data.split: a key must be a text, not 25
  try:     write decimals with a point: 0.25""",
            id="a decimal comma",
        ),
        pytest.param(
            "distill:",
            "distill:\n  hint: {taps: encoder.4}",
            """\
space.yaml:8: distill.hint.taps: not a list
  value:   'encoder.4'
  allowed: a list of 1 or more, each a text
  try:     write a list: [encoder.4]""",
            id="one tap for a list",
        ),
        pytest.param(
            "teacher: {encoder: {values: [resnet18, resnet34]}}\n",
            "",
            """\
space.yaml:7: distill.pixel_kl: a distillation loss without a teacher
  allowed: a teacher, or no distillation losses (weight 0 or null)
  try:     add a `teacher:` section; in a sweep, `controls: shared` already trains each student \
without a teacher""",
            id="no teacher",
        ),
        pytest.param(
            "name: backbones",
            "name: my space!",
            """\
space.yaml:2: name: not usable as a folder name
  value:   'my space!'
  allowed: letters, digits, '.', '_' and '-', at most 80 of them
  try:     for example my-space""",
            id="a name with blanks",
        ),
    ],
)
def test_errors_in_values(message: Message, old: str, new: str, text: str) -> None:
    assert message(old, new) == text


TEMPERATURE = "{values: [1, 2, 4]}"


@pytest.mark.parametrize(
    ("new", "text"),
    [
        pytest.param(
            "{values: [1, 2, 0]}",
            """\
space.yaml:10: distill.pixel_kl.temperature.values[2]: too small
  value:   0
  allowed: a number > 0""",
            id="one bad choice",
        ),
        pytest.param(
            "{min: 0, max: 4, distribution: uniform}",
            """\
space.yaml:10: distill.pixel_kl.temperature.min: too small
  value:   0
  allowed: a number > 0""",
            id="a bad end",
        ),
        pytest.param(
            "{valuse: [1, 2]}",
            """\
space.yaml:10: distill.pixel_kl.temperature: not a number
  value:   {valuse: [1, 2]}
  allowed: a number > 0
  try:     a range is written {values: [a, b]} or {min: a, max: b}""",
            id="a slip in values",
        ),
        pytest.param(
            "{min: 1, max: 4, distributon: uniform}",
            """\
space.yaml:10: distill.pixel_kl.temperature.distributon: unknown key
  value:   'distributon'
  allowed: distribution, values, probabilities, value, min, max, q
  try:     did you mean `distribution`?""",
            id="a slip in distribution",
        ),
        pytest.param(
            "{min: 1, max: 4, distribution: loguniform}",
            """\
space.yaml:10: distill.pixel_kl.temperature.distribution: unknown distribution
  value:   'loguniform'
  allowed: uniform, q_uniform, log_uniform_values, int_uniform, q_log_uniform_values, \
categorical, categorical_w_probabilities, constant
  try:     use log_uniform_values""",
            id="another library's name of a distribution",
        ),
        pytest.param(
            "{min: 1, max: 4, distribution: log_uniform}",
            """\
space.yaml:10: distill.pixel_kl.temperature.distribution: a distribution that takes exponents, \
which kdsweep does not support
  value:   'log_uniform'
  allowed: q_uniform, uniform, log_uniform_values, int_uniform, q_log_uniform_values, \
categorical, categorical_w_probabilities, constant
  try:     use log_uniform_values, whose min and max are the values themselves""",
            id="exponents",
        ),
        pytest.param(
            "{distribution: normal, mu: 1}",
            """\
space.yaml:10: distill.pixel_kl.temperature.distribution: a distribution that kdsweep does not \
support
  value:   'normal'
  allowed: uniform, q_uniform, log_uniform_values, int_uniform, q_log_uniform_values, \
categorical, categorical_w_probabilities, constant
  try:     a space is checked at the ends of its ranges: use one with min and max""",
            id="no ends",
        ),
        pytest.param(
            "{min: 0, max: 4, distribution: log_uniform_values}",
            """\
space.yaml:10: distill.pixel_kl.temperature.min: a logarithmic range must start above 0
  value:   0
  allowed: a number > 0
  try:     to include 0: {values: [0, {min: …, max: 4, distribution: log_uniform_values}]}""",
            id="the logarithm of 0",
        ),
        pytest.param(
            "{min: 4, max: 1}",
            """\
space.yaml:10: distill.pixel_kl.temperature: min must be less than max
  value:   {min: 4, max: 1}
  try:     swap the two""",
            id="ends swapped",
        ),
        pytest.param(
            "{min: 4}",
            """\
space.yaml:10: distill.pixel_kl.temperature: max is missing
  value:   {min: 4}
  try:     add max to the range""",
            id="one end",
        ),
        pytest.param(
            "{values: []}",
            """\
space.yaml:10: distill.pixel_kl.temperature.values: no values to choose from
  value:   []
  allowed: a list of one or more values""",
            id="nothing to choose",
        ),
        pytest.param(
            "{values: [1, 2, 1]}",
            """\
space.yaml:10: distill.pixel_kl.temperature.values[2]: this choice stands in the list already
  value:   1
  try:     to make a choice more likely, add `probabilities`""",
            id="a choice twice",
        ),
        pytest.param(
            "{values: [1, 2], probabilities: [1, 3]}",
            """\
space.yaml:10: distill.pixel_kl.temperature.probabilities: the probabilities sum to 4
  value:   [1, 3]
  allowed: probabilities that sum to 1
  try:     [0.25, 0.75]""",
            id="probabilities that do not sum to 1",
        ),
        pytest.param(
            "{values: [1, 2], min: 3}",
            """\
space.yaml:10: distill.pixel_kl.temperature.min: min does not go with values
  value:   3
  allowed: with values: probabilities, distribution""",
            id="two kinds of range at once",
        ),
        pytest.param(
            "{min: 1, max: 4, q: 1}",
            """\
space.yaml:10: distill.pixel_kl.temperature.q: int_uniform takes no q
  value:   1
  try:     add distribution: q_uniform or q_log_uniform_values""",
            id="steps without their distribution",
        ),
    ],
)
def test_errors_in_ranges(message: Message, new: str, text: str) -> None:
    assert message(TEMPERATURE, new) == text


def test_a_range_of_fractions_for_a_whole_number(message: Message) -> None:
    assert message("epochs: 4", "epochs: {min: 2, max: 8, distribution: log_uniform_values}") == (
        """\
space.yaml:12: train.epochs: this range draws fractions
  value:   {min: 2, max: 8, distribution: log_uniform_values}
  allowed: a whole number > 0
  try:     add distribution: int_uniform or q_log_uniform_values"""
    )


def test_a_range_in_a_fixed_section(message: Message) -> None:
    assert message("sweep: {trials: 8}", "sweep: {trials: {values: [8, 16]}}") == (
        """\
space.yaml:14: sweep.trials: a range is not allowed here
  try:     ranges stand in data, teacher, student, distill and train"""
    )


def test_a_key_beside_values(message: Message) -> None:
    assert message(
        "teacher: {encoder: {values", "teacher: {arch: fpn, values: [{encoder: a}]}\n#"
    ) == (
        """\
space.yaml:4: teacher.arch: unknown key
  value:   'arch'
  allowed: values, probabilities, value, min, max, distribution, q
  try:     `values` makes this a range; other keys go into its choices"""
    )


def test_a_grid_over_a_continuous_space(message: Message) -> None:
    assert message("trials: 8", "sampler: grid") == (
        """\
space.yaml:9: distill.pixel_kl.weight: a grid needs a finite space, and this range has infinitely \
many values
  try:     use `values` or distribution: q_uniform, or another sampler"""
    )


def test_infinitely_many_controls(message: Message) -> None:
    assert message(
        "encoder: {values: [resnet18, mobilenet_v2]}", "options: {x: {min: 0.5, max: 1}}"
    ) == (
        """\
space.yaml:6: student.options.x: infinitely many student architectures, each of which needs a \
control
  try:     use `values`, or set sweep.controls to none"""
    )


def test_all_errors_at_once_in_the_order_of_the_file(message: Message) -> None:
    changed = "epochs: 0\n  optimizr: adam\n  batch_size: 8.5"
    assert message("epochs: 4", changed, overrides=["student.encoder=3"]) == (
        """\
--set student.encoder=3: student.encoder: not a text
  value:   3
  allowed: a text
  try:     put it in quotes: "3"
and 3 more:
space.yaml:12: train.epochs: too small
  value:   0
  allowed: a whole number > 0
space.yaml:13: train.optimizr: unknown key
  value:   'optimizr'
  allowed: optimizer, epochs, batch_size, accumulate, lr, weight_decay, momentum, schedule, \
warmup_epochs, clip_norm, supervised, unlabelled_ratio, precision, channels_last, compile, \
validate_at, select, seed, teacher, student
  try:     did you mean `optimizer`?
space.yaml:14: train.batch_size: not a whole number
  value:   8.5
  allowed: a whole number > 0"""
    )


def test_many_errors_are_counted(message: Message) -> None:
    text = message("epochs: 4", "epochs: 4\n" + "".join(f"  key{i}: 1\n" for i in range(9)))
    assert "and 8 more:" in text
    assert text.endswith("… 3 not shown")


def test_a_space_is_no_job(message: Message) -> None:
    assert message(load=load_job) == (
        """\
space.yaml:14: sweep: this is a search space, not a job
  try:     run it as a sweep with `kdsweep run space.yaml`"""
    )
    assert message("sweep: {trials: 8}\n", "", load=load_job) == (
        """\
space.yaml:4: teacher.encoder: a range, where a job needs one value
  value:   {values: [resnet18, resnet34]}
  try:     choose a value with --set teacher.encoder=VALUE, or run all of them as a sweep with \
`kdsweep run space.yaml`"""
    )
