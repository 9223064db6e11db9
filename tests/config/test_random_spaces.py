"""The promise that a space which validates cannot draw an invalid job, on random spaces."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from drawing import FixedSuggest, RandomSuggest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdsweep.config import Job, Space, control_key, corners, load_space
from kdsweep.config.reference import json_schema
from kdsweep.errors import ConfigError

POSITIVE = st.floats(0.01, 10) | st.integers(1, 9)
FLOATS = st.floats(0.0, 0.9)


def ranged(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value, or a choice between several."""
    return st.one_of(
        values,
        values,
        st.lists(values, min_size=1, max_size=3, unique_by=_as_equal).map(lambda v: {"values": v}),
        st.lists(values, min_size=2, max_size=3, unique_by=_as_equal).map(lambda v: {"values": v}),
        values.map(lambda value: {"value": value}),
    )


def _as_equal(value: Any) -> str:
    return json.dumps(float(value) if isinstance(value, int | float) else value)


@st.composite
def number(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> Any:
    """A number, or any kind of range of numbers."""
    if draw(st.booleans()):
        return draw(ranged(values))
    low, high = sorted((draw(values), draw(values)))
    kinds = [None, None, None, "uniform", "log_uniform_values", "q_uniform", "q_log_uniform_values"]
    kind = draw(st.sampled_from(kinds))
    if low == high:
        return low
    found = {"min": low, "max": high, **({"distribution": kind} if kind else {})}
    if kind and kind.startswith("q_"):
        found["q"] = draw(st.sampled_from([1, (high - low) / 4])) if high - low > 2 else 0.001
    return found


def section(
    optional: dict[str, st.SearchStrategy[Any]], **required: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(required, optional=optional)


WHOLE = number(st.one_of(*[st.integers(1, 9)] * 6, st.integers(0, 9)))
WEIGHT = number(st.integers(0, 9) | st.floats(0.1, 3))


def names(first: str, second: str) -> st.SearchStrategy[Any]:
    """A list of one or two names, each of which may be a range."""
    one = ranged(st.sampled_from(first.split()))
    return st.tuples(one).map(list) | st.tuples(one, ranged(st.sampled_from(second.split()))).map(
        list
    )


TAPS = ranged(names("encoder.2 encoder.3", "encoder.3 encoder.4 decoder"))
SWITCH = ranged(st.booleans())


def term(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return ranged(st.none() | section({"weight": WEIGHT, **keys}))


MODEL = section(
    {
        "encoder": ranged(st.sampled_from(["resnet18", "resnet34"])),
        "encoder_weights": ranged(st.sampled_from([None, "imagenet"])),
        "options": st.just({}) | st.just({"depth": {"values": [3, 4]}}),
    }
)
SPLIT = ranged(
    section({"val": number(st.floats(0.1, 0.7)), "test": number(st.floats(0.0, 0.6))})
    | section({"test": names("e f", "g a")}, train=names("a b", "c d"), val=names("c x", "y z"))
)
DATA = section(
    {"augment": ranged(st.sampled_from(["none", "light"])), "num_train": WHOLE, "split": SPLIT}
    | {"hood_void": SWITCH, "scenes": WHOLE},
    source=ranged(st.sampled_from(["lyft", "lyft", "folder", "camvid"])),
    image_size=ranged(st.just([64, 96]) | st.tuples(WHOLE, WHOLE).map(list)),
)
LYFT = section(
    {"split": SPLIT, "hood_void": SWITCH},
    source=st.just("lyft"),
    image_size=st.just([64, 96]),
)
LOSS = st.sampled_from(
    [None, {}, {}, {"values": [{}, None]}, {"values": [{}, None]}, {"values": [None, {}]}]
)
SUPERVISED = section(
    {"class_weights": ranged(st.sampled_from([None, None, "inverse_log", [1, 2.0], [0, 1]]))},
    ce=LOSS,
    dice=LOSS,
    focal=LOSS,
)
TRAIN = section(
    {
        "lr": number(POSITIVE),
        "momentum": number(FLOATS),
        "optimizer": ranged(st.sampled_from(["adam", "sgd"])),
        "supervised": SUPERVISED,
        "student": section({"lr": number(POSITIVE), "clip_norm": ranged(st.none() | POSITIVE)}),
    },
    epochs=number(st.integers(1, 9)),
)
DISTILL = section(
    {
        "pixel_kl": term(temperature=number(POSITIVE)),
        "hint": term(taps=TAPS, normalize=SWITCH),
        "warmup_epochs": WEIGHT,
    }
)
SPACES = section(
    {"teacher": ranged(st.none() | MODEL), "distill": ranged(DISTILL)},
    data=ranged(LYFT | DATA),
    student=ranged(MODEL),
    train=TRAIN,
)
# Every check across several fields, and nothing else.
CROSSED = section(
    {},
    data=st.fixed_dictionaries(
        {"source": st.just("lyft"), "image_size": st.just([64, 96]), "split": SPLIT}
    ),
    teacher=st.sampled_from([None, {}, {}, {"values": [{}, None]}]),
    student=st.just({}),
    distill=section({"pixel_kl": LOSS, "hint": term(taps=TAPS)}),
    train=st.fixed_dictionaries({"epochs": st.just(1), "supervised": SUPERVISED}),
)
SCHEMA = jsonschema.Draft202012Validator(json_schema())


@settings(max_examples=150, deadline=None)
@given(tree=SPACES | CROSSED, seed=st.integers(0, 2**32), product=st.sampled_from([0, 1000]))
def test_a_space_that_validates_draws_valid_jobs(
    tree: dict[str, Any], seed: int, product: int
) -> None:
    # A product of 0 sends every scope down the path that wide spaces take.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corners, "MAX_PRODUCT", product)
        try:
            space = load_space(tree)
        except ConfigError:
            return  # that invalid spaces are told apart is the business of the other tests
    SCHEMA.validate(tree)
    jobs = list(space.corners())
    assert jobs
    suggest = RandomSuggest(seed)
    control_keys = {control_key(job) for job in space.controls()}
    again = Space.from_resolved(json.loads(json.dumps(space.resolved())))
    assert again == space
    for _ in range(20):
        draw = space.draw(suggest)
        assert Job.model_validate(draw.job.model_dump(mode="json")) == draw.job
        assert control_key(draw.job) in control_keys
        assert again.draw(FixedSuggest(draw.params)) == draw
    shown = {key for job in space.jobs_to_check() for key in [job.student.encoder]}
    assert shown == {job.student.encoder for job in jobs}
    num_points = space.num_points()
    if num_points is not None and num_points <= 200:
        points = list(space.grid())
        assert len(points) == num_points
        assert all(space.draw(FixedSuggest(point)).params == point for point in points)
