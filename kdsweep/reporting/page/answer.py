"""What a sweep answers, in sentences: the best student, and what to keep in mind about it."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from kdsweep.ledger.trials import title
from kdsweep.reporting import formats
from kdsweep.reporting.caveats import nothing_yet, score_on_test
from kdsweep.reporting.comparisons import has_own_control
from kdsweep.reporting.confirmation import Claim, claims_in
from kdsweep.reporting.page.shipping import cost_sentences, latency_detail
from kdsweep.reporting.pareto import front_sentence, names_of
from kdsweep.reporting.results import Results
from kdsweep.reporting.summary import Best
from kdsweep.reporting.tables import plain
from kdsweep.reporting.verdict import claims_about, verdict


@dataclass(frozen=True)
class Card:
    """One number that is read at a glance, with its name and a few words beneath it."""

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
        Card("student", best.student, f"trial {best.number}"),
        Card("teacher", best.teacher or formats.NO_TEACHER, _teacher_detail(best)),
        Card(metric, formats.score(best.value), _value_detail(best)),
        *_gain_cards(results, best),
    ]
    if best.params_m is not None:
        found.append(Card("size", f"{best.params_m:.1f} M", "parameters"))
    if best.latency_ms is not None:
        detail = latency_detail(results, best)
        found.append(Card("latency", f"{formats.amount(best.latency_ms)} ms", detail))
    return found


def _gain_cards(results: Results, best: Best) -> list[Card]:
    """Return the confirmed gain where there is one, else that of one pair of trainings."""
    confirmed = [one for one in claims_about(results, best) if one.gain is not None]
    if confirmed:
        return [_confirmed_gain(one, f", {one.job}, {one.seeds} seeds") for one in confirmed]
    if best.gain is None:
        return []
    shared = "" if has_own_control(results, best.number) else ", which is shared"
    detail = f"to its control{shared}; one training each"
    found = [Card("difference", formats.gain(best.gain), detail)]
    if "self_gain" in results.trials:
        own = plain(results.trials.set_index("number")["self_gain"][best.number])
        detail = "to itself, taught by its own average"
        found += [] if own is None else [Card("difference", formats.gain(own), detail)]
    return found


def _confirmed_gain(one: Claim, more: str = "") -> Card:
    return Card(one.gain_name, formats.gain(one.gain), f"{one.interval}{more}")


def _confirmed_cards(results: Results, metric: str) -> list[Card]:
    """Return the numbers of the first confirmed job, which was the best of the sweep before."""
    found = []
    claims = claims_in(results.confirmation)
    for one in claims:
        if one.job == claims[0].job:
            job = f"{one.job}, {formats.counted(one.seeds, 'seed')}"
            score = Card(f"{metric}, {one.split}", formats.spread(one.mean, one.sd), job)
            if score not in found:
                found.append(score)
            found.append(_confirmed_gain(one))
    return found


def sentences(results: Results, metric: str) -> list[str]:
    """Return the answer, a sentence for each thing there is to say.

    Which network is best, what a teacher did for it and what would settle that come first.
    """
    best = results.summary.best
    if best is None:
        return [nothing_yet(results.summary, on_page=True)]
    if not results.confirmation.empty:
        subject = f"The student of trial {best.number} ({best.student})"
        claims = [claim.sentence for claim in claims_in(results.confirmation)]
        return [*claims, *cost_sentences(results, best, subject)]
    answer = verdict(results)
    assert answer is not None
    found = [*compromises(results), *answer.sentences]
    test = score_on_test(results, best.number)
    if test is not None:
        found.append(f"On the test split it has {metric} {formats.score(test)}.")
    found += cost_sentences(results, best)
    if best.agreement is not None:
        percent = formats.percent(best.agreement)
        found.append(
            f"It predicts the same class as its teacher at {percent} % of the labelled pixels."
        )
    found += _pair_sentence(results, metric)
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


def _pair_sentence(results: Results, metric: str) -> list[str]:
    pairs = results.pairs[results.pairs["best"].notna()]
    if len(pairs) < 2:
        return []
    first, second = pairs.iloc[0], pairs.iloc[1]
    behind = formats.score(first["best"] - second["best"])
    named = [_pair(pair) for pair in (first, second)]
    return [f"The best pair is {named[0]}; the next, {named[1]}, is {behind} {metric} behind."]


def _pair(pair: pd.Series) -> str:
    teacher, student = plain(pair["teacher"]), pair["student"]
    short = formats.after(pair["best_epochs"], pair["planned_epochs"])
    facts = [formats.counted(pair["num_trials"], "trial"), *([f"best {short}"] if short else [])]
    return f"{title(f'{teacher}→{student}', student, teacher)} ({', '.join(facts)})"


def _value_detail(best: Best) -> str:
    short = formats.after(best.epochs, best.planned_epochs)
    return f"validation split, epoch {best.best_epoch}{f', {short}' if short else ''}"


def _teacher_detail(best: Best) -> str:
    score = best.teacher_miou
    return "" if score is None else f"mIoU {formats.score(score)} at the same epoch"
