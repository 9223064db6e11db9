"""What a sweep answers, in sentences: the best student, and what to keep in mind about it."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from kdsweep.config.metrics import NATIVE, TEST_MIOU
from kdsweep.reporting import formats
from kdsweep.reporting.caveats import notes
from kdsweep.reporting.constraints import bound_sentences, nothing_within
from kdsweep.reporting.page.confirmed import claims_of
from kdsweep.reporting.page.shipping import cost_sentences, latency_detail
from kdsweep.reporting.pareto import front_sentence, names_of
from kdsweep.reporting.results import Results
from kdsweep.reporting.summary import Best, Summary

_UNSOLVED = 0.05  # an IoU below which a class is as good as unknown


@dataclass(frozen=True)
class Card:
    """One number that is read at a glance.

    Attributes:
        name: What it is.
        value: The number as text.
        detail: A few words beneath it.
    """

    name: str
    value: str
    detail: str = ""


def cards(results: Results, metric: str) -> list[Card]:
    """The numbers of the best student; none before there is one.

    Of a sweep with several metrics that is the best by its score.
    """
    best = results.summary.best
    if best is None:
        return []
    if not results.confirmation.empty:
        return _confirmed_cards(results, metric)
    found = [
        *(
            [Card("compromises", str(len(results.front)), "students that no other beats")]
            if len(results.front) > 1
            else []
        ),
        Card(metric, formats.score(best.value), f"validation split, epoch {best.best_epoch}"),
        Card("student", formats.names([best.student])[0], f"trial {best.number}"),
        Card("teacher", formats.names([best.teacher])[0], _teacher_detail(best)),
    ]
    if best.gain is not None:
        detail = "over its control" + ("" if _is_matched(results, best) else ", which is shared")
        found.append(Card("gain", formats.gain(best.gain), detail))
    if best.params_m is not None:
        found.append(Card("size", f"{best.params_m:.1f} M", "parameters"))
    if best.latency_ms is not None:
        detail = latency_detail(results, best)
        found.append(Card("latency", f"{formats.amount(best.latency_ms)} ms", detail))
    return found


def _confirmed_cards(results: Results, metric: str) -> list[Card]:
    """The first confirmed job, which was the best of the sweep before."""
    found = []
    first = results.confirmation[results.confirmation["job"] == results.confirmation["job"].iloc[0]]
    for row in first.to_dict("records"):
        spread = "" if pd.isna(row["sd"]) else f" ± {formats.score(row['sd'])}"
        seeds = formats.counted(row["seeds"], "seed")
        found.append(
            Card(
                f"{metric}, {row['split']}",
                f"{formats.score(row['mean'])}{spread}",
                f"{row['job']}, {seeds}",
            )
        )
        interval = (
            "no interval"
            if pd.isna(row["low"])
            else f"95 %: {formats.gain(row['low'])} to {formats.gain(row['high'])}"
        )
        found.append(Card(f"gain, {row['split']}", formats.gain(row["gain"]), interval))
    return found


def sentences(results: Results, metric: str) -> list[str]:
    """The answer, one sentence for each thing there is to say."""
    best = results.summary.best
    if best is None:
        return [_nothing_yet(results)]
    if not results.confirmation.empty:
        subject = f"The student of trial {best.number} ({best.student})"
        return [*_confirmed(results), *cost_sentences(results, best, subject)]
    teacher = "" if best.teacher is None else f", taught by {best.teacher},"
    searched = "The best student is"
    if not results.front.empty:
        searched = f"The best by {metric} is"
    found = [
        *compromises(results),
        f"{searched} {best.student}{teacher} in trial {best.number}: {metric} "
        f"{formats.score(best.value)} on the validation split at epoch {best.best_epoch}"
        f"{_scored(results)}.",
    ]
    test = _test_score(results, best.number)
    if test is not None:
        found.append(f"On the test split it has {metric} {formats.score(test)}.")
    found.append(_gain_sentence(results, best))
    found += cost_sentences(results, best)
    if best.agreement is not None:
        percent = formats.percent(best.agreement)
        found.append(
            f"It predicts the same class as its teacher at {percent} % of the labelled pixels."
        )
    found += _pair_sentence(results, metric)
    ties = [number for number in results.summary.best_ties if number != best.number]
    if ties:
        trials = "Trial" if len(ties) == 1 else "Trials"
        found.append(f"{trials} {formats.few(ties)} reached as much as trial {best.number}.")
    return found


def _scored(results: Results) -> str:
    """Return the size that was scored at, where it is not that of the images."""
    protocol = results.summary.protocol
    return f", scored at {formats.scored_at(protocol)}" if protocol == NATIVE else ""


def compromises(results: Results) -> list[str]:
    """Several metrics: between which students one may choose."""
    if results.front.empty:
        return []
    metrics = results.summary.metrics
    found = [front_sentence(results.front[metrics].to_dict("records"))]
    if len(results.front) > 1:
        where = f"one of {names_of(metrics)} is worse in another"
        if len(metrics) == 2:
            where = f"{names_of(metrics, 'or')} is worse in the other"
        found.append(f"In this sweep, any student that beats one of them in {where}.")
    return found


def warnings_of(results: Results) -> list[str]:
    """What makes the answer weaker than it looks, the gravest first."""
    summary = results.summary
    return [
        *_state(summary),
        *([f"{_sentence(summary.notice)}"] if summary.notice else []),
        *(_of_best(results, summary.best) if summary.best is not None else []),
        *_of_failures(results),
        *bound_sentences(summary.constraints, summary.num_too_costly, summary.rejected),
    ]


def _of_best(results: Results, best: Best) -> list[str]:
    summary = results.summary
    if not results.confirmation.empty:
        return [*notes(results), *_of_classes(results, best.number)]
    again = claims_of(results, best.number)
    found = [
        "One seed only: each value is one training. Differences no larger than those between "
        "seeds show nothing, and the best of many is partly luck."
    ]
    if again:
        found = [
            "Each value of this sweep is one training with one seed, and the best of many is "
            "partly luck. What may be claimed of the best student is what its confirmation says."
        ]
    num_test = summary.data.get("num_test")
    is_tested = any(row["split"] == "test" for row in again)
    if not is_tested and _test_score(results, best.number) is None:
        split = f"The test split ({num_test} frames)" if num_test else "A test split"
        found.append(
            f"{split} has never been scored. The scores are those of the validation split, which "
            "chose this student among all, and are therefore somewhat too high."
        )
    if summary.num_controls == 0:
        found.append("No controls: whether the teachers helped cannot be told from this sweep.")
    elif best.gain is not None and not _is_matched(results, best):
        found.append(
            "The control is shared: it was trained once, at the middle of the search space's "
            "ranges. The gain mixes the teacher's effect with that of other hyperparameters."
        )
    found += _of_classes(results, best.number)
    found += _of_terms(results, best.number)
    if best.best_epoch == best.epochs and best.epochs > 1:
        found.append(
            "The best student was at its best in its last epoch: it may not have learned all it "
            "can, and longer training may change the order."
        )
    return found


def _of_classes(results: Results, number: int) -> list[str]:
    rows = results.classes[results.classes["trial"] == number]
    found = []
    unseen = rows.loc[rows["student"].isna(), "class"].tolist()
    if unseen:
        found.append(
            f"{_counted(unseen, 'class', 'classes')} never seen in the validation split and left "
            f"out of the mean: {_listing(unseen)}"
        )
    missed = rows.loc[rows["student"] < _UNSOLVED, "class"].tolist()
    if missed:
        found.append(
            f"{_counted(missed, 'class', 'classes')} that the best student hardly finds "
            f"(IoU below {_UNSOLVED}): {_listing(missed)}"
        )
    return found


def _of_terms(results: Results, number: int) -> list[str]:
    terms = results.terms
    found = []
    for verdict, meaning in (
        ("negligible", "gives less than 1 % of the student's gradient and changes next to nothing"),
        ("dominant", "gives more than 95 % of the student's gradient: the labels hardly count"),
    ):
        rows = terms[terms["verdict"] == verdict]
        names = rows.loc[rows["trial"] == number, "term"].tolist()
        if names:
            found.append(f"In the best trial, {formats.few(names)} {meaning}.")
        others = rows.loc[rows["trial"] != number, "trial"].nunique()
        if others:
            found.append(f"In {formats.counted(others, 'other trial')} a term is {verdict}.")
    return found


def _of_failures(results: Results) -> list[str]:
    failures, summary = results.failures, results.summary
    found = []
    if summary.num_failed_trials:
        found.append(
            f"{formats.counted(summary.num_failed_trials, 'trial')} failed and is not in the "
            "comparison; see Cost."
            if summary.num_failed_trials == 1
            else f"{summary.num_failed_trials} trials failed and are not in the comparison; "
            "see Cost."
        )
    retried = failures[failures["retried"]]
    if len(retried):
        kinds = retried["class"].fillna("unknown").value_counts()
        causes = ", ".join(f"{num}× {kind}" for kind, num in kinds.items())
        smaller = (
            " After running out of memory a trial goes on with a smaller batch and as many "
            "accumulated gradients."
            if (retried["class"] == "oom").any()
            else ""
        )
        found.append(f"Trials were started again after failures ({causes}).{smaller}")
    return found


def _state(summary: Summary) -> list[str]:
    done = summary.num_trials - summary.states["waiting"] - summary.states["running"]
    planned = summary.num_planned or summary.num_trials
    progress = f"{done} of {planned} trials have ended"
    reason = formats.pause_reason(summary.pause_reason or "")
    return {
        "running": [f"The sweep is still running: {progress}. All of this may change."],
        "died": [f"The process that drove the sweep has died: {progress}. It can be resumed."],
        "paused": [f"The sweep is paused ({reason}): {progress}. It can be resumed."],
        "not started": ["The sweep has been prepared and not started."],
        "empty": ["The ledger is empty: the sweep did not get as far as its first line."],
    }.get(summary.state, [])


def _nothing_yet(results: Results) -> str:
    summary = results.summary
    if summary.num_too_costly:
        return nothing_within(summary.constraints)
    if summary.num_trials == 0:
        return "No trial has been drawn yet, so there is nothing to answer."
    if summary.states["failed"] == summary.num_trials:
        return (
            "The only trial failed before its first epoch was finished. Its cause and log are "
            "under Cost."
            if summary.num_trials == 1
            else f"All {summary.num_trials} trials failed before their first epoch was "
            "finished. Their causes and logs are under Cost."
        )
    return "No trial has finished an epoch yet."


def _confirmed(results: Results) -> list[str]:
    """What repeated seeds allow to claim of each job."""
    rows = results.confirmation[["job", "teacher", "student", "split", "claim"]]
    return [
        f"{job} ({formats.names([student])[0]}, taught by {formats.names([teacher])[0]}), on the "
        f"{split} split: {words}."
        for job, teacher, student, split, words in rows.itertuples(index=False)
    ]


def _gain_sentence(results: Results, best: Best) -> str:
    rows = results.gains[results.gains["trial"] == best.number]
    if best.gain is None:
        reason = rows["reason"].dropna().tolist()
        return f"There is no gain to tell{f': {reason[0]}' if reason else ''}."
    row = rows.iloc[0]
    amount = abs(best.gain)
    relation = (
        "as much as"
        if round(amount, 3) == 0
        else f"{formats.score(amount)} {'more' if best.gain > 0 else 'less'} than"
    )
    return (
        f"That is {relation} its control, the student without a teacher (trial {row['control']}), "
        f"reached within as many epochs. One pair of trainings gives no interval for this gain; "
        f"{'its confirmation' if claims_of(results, best.number) else 'kdsweep confirm'} does."
    )


def _pair_sentence(results: Results, metric: str) -> list[str]:
    pairs = results.pairs[results.pairs["best"].notna()]
    if len(pairs) < 2:
        return []
    first, second = pairs.iloc[0], pairs.iloc[1]
    behind = formats.score(first["best"] - second["best"])
    names = formats.names([first["teacher"], first["student"], second["teacher"]])
    student = formats.names([second["student"]])[0]
    counts = [formats.counted(pair["num_trials"], "trial") for pair in (first, second)]
    return [
        f"The best pair is {names[0]}→{names[1]} ({counts[0]}); the next, {names[2]}→{student} "
        f"({counts[1]}), is {behind} {metric} behind."
    ]


def _teacher_detail(best: Best) -> str:
    score = best.teacher_miou
    return "" if score is None else f"mIoU {formats.score(score)} at the same epoch"


def _is_matched(results: Results, best: Best) -> bool:
    rows = results.gains[results.gains["trial"] == best.number]
    return bool(rows["matched"].all())


def _test_score(results: Results, number: int) -> float | None:
    if TEST_MIOU not in results.epochs:
        return None
    scores = results.epochs.loc[results.epochs["trial"] == number, TEST_MIOU].dropna()
    return None if scores.empty else float(scores.iloc[-1])


def _listing(names: list[str]) -> str:
    """The first names, ending the sentence."""
    text = formats.few(names)
    return text if text.endswith("…") else f"{text}."


def _counted(names: list[str], one: str, many: str) -> str:
    return f"{len(names)} {one if len(names) == 1 else many}"


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."
