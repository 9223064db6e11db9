"""What a study asks for and what it tells its sampler, event by event and without a driver."""

import optuna
import pytest
from fake_training import static_costs
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from simulation import make_space

from kdsweep.ledger.events import EpochEvent, FailEvent, RejectedEvent, SweepEvent, TrialEvent
from kdsweep.sweep.samplers import make_sampler
from kdsweep.sweep.study import Study

LATENCY = "student/latency_ms"
UNIT = {"min": 0.001, "max": 1.0}
SMALL = {"student/params_m": "<= 20"}  # which resnet34 exceeds
STUDENTS = {"encoder": {"values": ["resnet34", "resnet18", "mobilenet_v2"]}}
SIZES = {"image_size": {"values": [[32, 32], [64, 64]]}}
ONE_TEACHER = {"encoder": "resnet34"}
STUDENT_LR = {"student": {"lr": {"min": 1.0e-4, "max": 1.0e-1}}}


def space_of(lr, weight=1.0, **sections):
    """A space of a learning rate and the weight of a loss."""
    return make_space(
        teacher=ONE_TEACHER,
        student=sections.pop("student", {"encoder": "resnet18"}),
        distill={"pixel_kl": {"weight": weight}},
        train={"epochs": 9, "lr": lr, **sections.pop("train", {})},
        **sections,
    )


def drawn(number, params, drawn_with=None):
    named = {"kind": "search", "label": "x", "student": "x"}
    return TrialEvent(trial=number, params=params, drawn_with=drawn_with, **named)


def epoch(number, value, stop=None, epoch=1, **fields):
    return EpochEvent(trial=number, epoch=epoch, value=value, stop=stop, **fields)


def ask_all(study, count, ask=None):
    """Draw trials one after the other and let the study know of each; their parameters."""
    found = []
    for number in range(count):
        draw = (ask or study.ask)(number)
        study.apply(drawn(number, draw.params))
        found.append(draw.params)
    return found


def bounded(space):
    """A study of a space with static bounds that knows what each student costs."""
    known = space.architectures()
    costs = static_costs([a.job for a in known], 2)
    study = Study(space)
    study.apply(SweepEvent(static_costs={a.key: c for a, c in zip(known, costs, strict=True)}))
    return study


# -- what is drawn ---------------------------------------------------------------------------------


def test_tpe_draws_parameters_jointly():
    study = Study(space_of(UNIT, UNIT, sweep={"sampler": "tpe"}))
    options = [0.01 * n for n in range(1, 100)]
    for number in range(60):
        one, other = options[number], options[number * 7 % len(options)]
        study.apply(drawn(number, {"train.lr": one, "distill.pixel_kl.weight": other}))
        study.apply(epoch(number, -abs(one - other), "complete"))  # equal is best
    draws = [study.ask(number).params for number in range(60, 80)]
    gaps = [abs(params["train.lr"] - params["distill.pixel_kl.weight"]) for params in draws]
    # Apart, two numbers between 0 and 1 are a third of it from each other.
    assert sum(gaps) / len(gaps) < 0.15


def test_in_a_finite_space_the_sampler_draws_too():
    study = Study(space_of(0.1, train={"batch_size": {"min": 2, "max": 101}}))
    for number in range(60):
        study.apply(drawn(number, {"train.batch_size": 2 + number}))
        study.apply(epoch(number, number / 60, "complete"))
    sizes = [study.ask(number).params["train.batch_size"] for number in range(60, 80)]
    assert min(sizes) > 61  # the others were drawn
    assert sum(size < 75 for size in sizes) >= 14  # a third of those left, and next to the best


def test_a_draw_that_was_rejected_is_not_drawn_again_for_its_number():
    study = Study(space_of(UNIT, sweep={"sampler": "random"}))
    seen = []
    for _ in range(4):
        draw = study.ask(0)
        seen.append(draw.params["train.lr"])
        study.apply(RejectedEvent(number=0, label="x", params=draw.params, excess={"x": 1.0}))
    assert len(set(seen)) == 4
    fresh = Study(space_of(UNIT, sweep={"sampler": "random"}))
    assert fresh.ask(0).params["train.lr"] == seen[0]


@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_a_finite_space_within_bounds_is_drawn_to_its_end(sampler):
    space = space_of(
        {"values": [0.1, 0.2]}, student=STUDENTS, sweep={"sampler": sampler, "constraints": SMALL}
    )
    study = bounded(space)
    found = ask_all(study, 4, lambda number: study.ask(number, feasible=True))
    assert len({tuple(sorted(params.items())) for params in found}) == 4
    assert {params["student.encoder"] for params in found} == {"resnet18", "mobilenet_v2"}


def test_only_who_is_asked_to_keeps_to_the_bounds():
    space = space_of(
        UNIT,
        student=STUDENTS,
        sweep={"sampler": "random", "constraints": SMALL},
    )
    study = bounded(space)
    free = {study.ask(number).params["student.encoder"] for number in range(20)}
    kept = {study.ask(n, feasible=True).params["student.encoder"] for n in range(20)}
    assert free == set(STUDENTS["encoder"]["values"])
    assert kept == {"resnet18", "mobilenet_v2"}


# -- further students of a cohort ------------------------------------------------------------------


def siblings(study, count, feasible=False):
    """The first draw, and those that share its teacher."""
    first = study.ask(0, feasible=feasible)
    study.apply(drawn(0, first.params))
    found = []
    for number in range(1, count + 1):
        draw = study.ask_sibling(number, first.params, feasible=feasible)
        if draw is None:
            break
        assert first.shared.items() <= draw.params.items()
        study.apply(drawn(number, draw.params, drawn_with=0))
        found.append(draw.params)
    return first.params, found


@pytest.mark.parametrize("sampler", ["random", "grid", "tpe"])
def test_a_cohort_ends_with_the_last_student_that_it_can_have(sampler):
    space = space_of({"values": [0.1, 0.2]}, student=STUDENTS, sweep={"sampler": sampler})
    first, found = siblings(Study(space), 9)
    encoders = [params["student.encoder"] for params in (first, *found)]
    assert sorted(encoders) == sorted(STUDENTS["encoder"]["values"])
    if sampler == "grid":
        assert encoders == STUDENTS["encoder"]["values"]


def test_only_a_grid_walks_through_the_siblings():
    options = [0.01 * n for n in range(1, 100)]
    for sampler in ("grid", "tpe", "random"):
        train = {"student": {"lr": {"values": options}}}
        _, found = siblings(Study(space_of(0.1, train=train, sweep={"sampler": sampler})), 8)
        rates = [params["train.student.lr"] for params in found]
        assert (rates == sorted(rates)) is (sampler == "grid")


@pytest.mark.parametrize("train", [{}, STUDENT_LR])
def test_siblings_within_bounds_share_what_a_cohort_shares(train):
    space = space_of(
        UNIT,
        student=STUDENTS,
        data=SIZES,
        train=train,
        sweep={"sampler": "random", "constraints": SMALL, "students_per_teacher": 2},
    )
    for _ in range(2):
        study = bounded(space)
        first, found = siblings(study, 6, feasible=True)
        encoders = {params["student.encoder"] for params in (first, *found)}
        assert encoders == {"resnet18", "mobilenet_v2"}
        assert len(found) == (6 if train else 1)
        assert {params["data.image_size"] for params in found} == {first["data.image_size"]}


def test_siblings_without_bounds_may_be_of_any_size():
    space = space_of(0.1, student=STUDENTS, train=STUDENT_LR, sweep={"sampler": "random"})
    _, found = siblings(Study(space), 12)
    assert {p["student.encoder"] for p in found} == set(STUDENTS["encoder"]["values"])
    assert len({p["train.student.lr"] for p in found}) == 12


# -- what the sampler is told ----------------------------------------------------------------------


def test_a_trial_has_the_ranges_that_it_was_drawn_from():
    space = make_space(
        teacher=ONE_TEACHER,
        student={"encoder": {"values": ["resnet18", "mobilenet_v2"]}},
        distill={"pixel_kl": {"weight": {"min": 0.5, "max": 2.0}}},
        train={"epochs": 9, "batch_size": {"min": 2, "max": 9}, "lr": 0.1},
    )
    study = Study(space)
    ask_all(study, 1)
    assert study.trial(0).distributions == {
        "student.encoder": CategoricalDistribution(["resnet18", "mobilenet_v2"]),
        "distill.pixel_kl.weight": FloatDistribution(0.5, 2.0),
        "train.batch_size": IntDistribution(2, 9),
    }


@pytest.mark.parametrize(
    ("stop", "state", "several"),
    [
        ("complete", TrialState.COMPLETE, TrialState.COMPLETE),
        ("asha", TrialState.PRUNED, TrialState.COMPLETE),
        ("constraint", TrialState.PRUNED, TrialState.PRUNED),
        (None, TrialState.RUNNING, TrialState.RUNNING),
    ],
)
def test_a_trial_is_told_with_the_values_of_its_best_epoch(stop, state, several):
    rates = UNIT
    one = Study(space_of(rates))
    two = Study(space_of(rates, sweep={"metric": ["student/miou", LATENCY]}))
    assert (one.directions, two.directions) == (["maximize"], ["maximize", "minimize"])
    for study, expected in ((one, state), (two, several)):
        study.apply(drawn(3, {"train.lr": 0.5}))
        for number, value in enumerate([0.2, 0.6, 0.4], 1):
            costs = {LATENCY: 10.0 * number}
            study.apply(epoch(3, value, stop if number == 3 else None, epoch=number, costs=costs))
        trial = study.trial(3)
        assert trial.state is expected
        assert trial.intermediate_values == {1: 0.2, 2: 0.6, 3: 0.4}
        if expected is TrialState.COMPLETE:
            assert trial.values == ([0.6] if study is one else [0.6, 20.0])


def test_only_a_failure_that_is_not_tried_again_ends_a_trial():
    study = Study(space_of(UNIT))
    ask_all(study, 1)
    study.apply(FailEvent(trial=9, failure="oom"))  # a control, which is none of the sampler's
    study.apply(FailEvent(trial=0, failure="oom", retry=True))
    assert study.trial(0).state is TrialState.RUNNING
    study.apply(FailEvent(trial=0, failure="oom"))
    assert study.trial(0).state is TrialState.FAIL
    assert list(study.trials()) == [0]


# -- samplers --------------------------------------------------------------------------------------


def test_each_name_is_its_sampler():
    samplers = optuna.samplers
    kinds = {
        "tpe": samplers.TPESampler,
        "cmaes": samplers.CmaEsSampler,
        "gp": samplers.GPSampler,
        "nsga2": samplers.NSGAIISampler,
        "random": samplers.RandomSampler,
        "grid": samplers.RandomSampler,
    }
    for name, kind in kinds.items():
        found = make_sampler(space_of({"values": [0.1, 0.2]}, sweep={"sampler": name}), seed=1)
        assert type(found) is kind or (name in ("cmaes", "gp") and isinstance(found, kind))


@pytest.mark.parametrize(("trials", "size"), [(14, 8), (100, 25), (1000, 50)])
def test_a_sweep_has_about_four_generations(trials, size):
    space = space_of({"min": 0.1, "max": 1.0}, sweep={"sampler": "nsga2", "trials": trials})
    assert make_sampler(space, seed=1).population_size == size


@pytest.mark.parametrize(
    ("sampler", "start"), [("tpe", 10), ("gp", 10), ("cmaes", 1), ("nsga2", 10)]
)
def test_no_draw_that_was_never_trained_counts_as_one_of_the_random_start(sampler, start):
    space = space_of(UNIT, UNIT, sweep={"sampler": sampler, "trials": 40})
    study = Study(space)
    numbers = (97, 98, 99)  # NSGA-II may draw a child anew from head to foot
    at_random = [Study(space).ask(number) for number in numbers]
    for number in range(start):
        params = {"train.lr": 0.05 * number + 0.01, "distill.pixel_kl.weight": 0.5}
        for _ in range(2):
            study.apply(RejectedEvent(number=number, label="x", params=params, excess={"x": 1.0}))
        # Asking leaves a trial that is thrown away.
        assert [study.ask(number) for number in numbers] == at_random
        study.apply(drawn(number, params))
        study.apply(epoch(number, 0.1 * number, "complete"))
    assert any(study.ask(n) != draw for n, draw in zip(numbers, at_random, strict=True))


def test_gp_learns_from_stopped_trials_too():
    study = Study(space_of(UNIT, UNIT, sweep={"sampler": "gp"}))
    for number in range(20):
        one, other = 0.05 * number + 0.01, 0.05 * (number * 7 % 20) + 0.01
        study.apply(drawn(number, {"train.lr": one, "distill.pixel_kl.weight": other}))
        study.apply(epoch(number, -((one - 0.3) ** 2), "asha" if number else "complete"))
    assert study.trial(1).state is TrialState.PRUNED  # which is how it is shown
    rates = [study.ask(number).params["train.lr"] for number in range(20, 26)]
    assert all(0.2 < rate < 0.4 for rate in rates)


def test_gp_takes_no_trial_for_bad_because_it_was_stopped_early():
    study = Study(space_of(UNIT, UNIT, sweep={"sampler": "gp"}))
    for number in range(20):
        rate = 0.05 * number + 0.01
        score = 0.5 - 0.3 * (rate - 0.3) ** 2  # best where all but one trial was stopped
        study.apply(drawn(number, {"train.lr": rate, "distill.pixel_kl.weight": 0.5}))
        is_stopped = abs(rate - 0.3) < 0.25 and number != 3
        study.apply(epoch(number, score - 0.4, "asha" if is_stopped else None))
        if not is_stopped:
            study.apply(epoch(number, score, "complete", epoch=9))
    rates = [study.ask(number).params["train.lr"] for number in range(20, 24)]
    assert all(0.15 < rate < 0.45 for rate in rates)


def test_gp_learns_a_bound_from_trials_that_broke_it():
    sweep = {"metric": ["student/miou", LATENCY], "constraints": {LATENCY: "<= 10"}}
    study = Study(space_of(UNIT, UNIT, sweep={"sampler": "gp", **sweep}))
    for number in range(12):
        rate = 0.08 * number + 0.01
        study.apply(drawn(number, {"train.lr": rate, "distill.pixel_kl.weight": 0.5}))
        costs = {LATENCY: 11.0 + 90.0 * (rate - 0.3) ** 2}
        study.apply(epoch(number, 0.5, "constraint", costs=costs))
    rates = [study.ask(number).params["train.lr"] for number in range(12, 16)]
    assert all(0.15 < rate < 0.45 for rate in rates)


def test_cmaes_learns_from_the_numbers_that_all_trials_have():
    ranges = {
        "a": FloatDistribution(0.0, 1.0),
        "b": IntDistribution(1, 5),
        "c": CategoricalDistribution([1, 2]),
        "d": FloatDistribution(3.0, 3.0),
        "e": FloatDistribution(0.0, 1.0),
    }
    params = {"a": 0.5, "b": 2, "c": 1, "d": 3.0, "e": 0.1}
    study = optuna.create_study()
    for left_out, state in ((None, TrialState.COMPLETE), ("e", TrialState.PRUNED)):
        known = {name: ranges[name] for name in ranges if name != left_out}
        values = {name: params[name] for name in known}
        value = 0.1 if state is TrialState.COMPLETE else None
        study.add_trial(create_trial(state=state, value=value, params=values, distributions=known))
    space = space_of({"min": 0.1, "max": 1.0}, sweep={"sampler": "cmaes"})
    sampler = make_sampler(space, seed=1)
    found = sampler.infer_relative_search_space(study, study.trials[0])
    assert found == {"a": ranges["a"], "b": ranges["b"]}


# -- what a sampler cannot learn -------------------------------------------------------------------


def told(space, stops):
    """A study that was told of trials, drawn at random from its space, that ended so."""
    random = Study(make_space(**{**space, "sweep": {"sampler": "random"}}))
    study = Study(make_space(**space))
    for number, stop in enumerate(stops):
        study.apply(drawn(number, random.ask(number).params))
        study.apply(epoch(number, 0.1 * number, stop))
    return study


def common(study, count):
    """The parameters that all trials have."""
    return set.intersection(*(set(study.trial(number).params) for number in range(count)))


@pytest.mark.parametrize(("sampler", "numbers_only"), [("gp", False), ("cmaes", True)])
def test_what_not_all_trials_have_is_drawn_at_random_and_named(sampler, numbers_only):
    study = told({"sweep": {"sampler": sampler}}, ["complete"] * 12)
    shared = {"train.lr"} if numbers_only else common(study, 12)
    drawn_now = study.ask(12).params
    assert set(study.at_random) == set(drawn_now) - shared
    assert study.at_random
    assert "train.lr" not in study.at_random


def test_no_parameter_of_a_cohort_that_is_given_is_named():
    space = {"sweep": {"sampler": "cmaes", "students_per_teacher": 2}, "train": STUDENT_LR}
    study = told(space, ["complete"] * 3)
    first = study.ask(3)
    assert "teacher.encoder" in study.at_random
    study.apply(drawn(3, first.params))
    study.ask_sibling(4, first.params)
    assert "student.encoder" in study.at_random
    assert not set(study.at_random) & set(first.shared)


def test_tpe_learns_all_it_has_seen():
    study = told({}, ["complete"] * 12)
    study.ask(12)
    assert study.at_random == []


@pytest.mark.parametrize(("stop", "learns"), [("complete", True), ("asha", False)])
def test_nsga2_that_has_seen_no_trial_complete_draws_all_at_random(stop, learns):
    space = {"distill": {"pixel_kl": {"weight": 1.0}}, "sweep": {"sampler": "nsga2"}}
    study = told(space, [stop] * 8)
    draw = study.ask(8)
    assert study.at_random == ([] if learns else list(draw.params))
