"""What a sweep answers, in sentences: the best student, and what to keep in mind about it."""

from __future__ import annotations

from dataclasses import dataclass

from kdsweep.reporting import formats
from kdsweep.reporting.caveats import has_own_control, nothing_yet, score_on_test
from kdsweep.reporting.confirmation import claims_in
from kdsweep.reporting.page.shipping import cost_sentences, latency_detail
from kdsweep.reporting.pareto import front_sentence, names_of
from kdsweep.reporting.results import Results
from kdsweep.reporting.summary import Best


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
    """Return the numbers of the best student; none before there is one.

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
        shared = "" if has_own_control(results, best.number) else ", which is shared"
        found.append(Card("gain", formats.gain(best.gain), f"over its control{shared}"))
    if best.params_m is not None:
        found.append(Card("size", f"{best.params_m:.1f} M", "parameters"))
    if best.latency_ms is not None:
        detail = latency_detail(results, best)
        found.append(Card("latency", f"{formats.amount(best.latency_ms)} ms", detail))
    return found


def _confirmed_cards(results: Results, metric: str) -> list[Card]:
    """Return the numbers of the first confirmed job, which was the best of the sweep before."""
    found = []
    claims = claims_in(results.confirmation)
    for one in claims:
        if one.job == claims[0].job:
            job = f"{one.job}, {formats.counted(one.seeds, 'seed')}"
            found.append(Card(f"{metric}, {one.split}", formats.spread(one.mean, one.sd), job))
            found.append(Card(f"gain, {one.split}", formats.gain(one.gain), one.interval))
    return found


def sentences(results: Results, metric: str) -> list[str]:
    """Return the answer, one sentence for each thing there is to say."""
    best = results.summary.best
    if best is None:
        return [nothing_yet(results.summary, on_page=True)]
    if not results.confirmation.empty:
        subject = f"The student of trial {best.number} ({best.student})"
        claims = [claim.sentence for claim in claims_in(results.confirmation)]
        return [*claims, *cost_sentences(results, best, subject)]
    teacher = "" if best.teacher is None else f", taught by {best.teacher},"
    searched = "The best student is"
    if not results.front.empty:
        searched = f"The best by {metric} is"
    found = [
        *compromises(results),
        f"{searched} {best.student}{teacher} in trial {best.number}: {metric} "
        f"{formats.score(best.value)} on the validation split at epoch {best.best_epoch}"
        f"{formats.of_protocol(results.summary.protocol)}.",
    ]
    test = score_on_test(results, best.number)
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


def compromises(results: Results) -> list[str]:
    """Say between which students one may choose in several metrics."""
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


def _gain_sentence(results: Results, best: Best) -> str:
    rows = results.gains[results.gains["trial"] == best.number]
    if best.gain is None:
        reason = rows["reason"].dropna().tolist()
        return f"There is no gain to tell{f': {reason[0]}' if reason else ''}."
    row = rows.iloc[0]
    means = "its confirmation" if results.summary.claims_of(best.number) else "kdsweep confirm"
    amount = abs(best.gain)
    relation = (
        "as much as"
        if round(amount, 3) == 0
        else f"{formats.score(amount)} {'more' if best.gain > 0 else 'less'} than"
    )
    return (
        f"That is {relation} its control, the student without a teacher (trial {row['control']}), "
        "reached within as many epochs. One pair of trainings gives no interval for this gain; "
        f"{means} does."
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
