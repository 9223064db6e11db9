"""What a reader has to keep in mind about the numbers of a sweep, in a sentence each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kdsweep.config.metrics import SEEN, TEST_MIOU, metric_of
from kdsweep.ledger.at_random import random_note
from kdsweep.ledger.given_teachers import teacher_doubts
from kdsweep.reporting import formats
from kdsweep.reporting.comparisons import (
    compared_with,
    has_own_control,
    headroom_of,
    lead_of_best,
    lottery,
)
from kdsweep.reporting.confirmation import (
    EQUALLY_LONG,
    ITS_OWN,
    last_epoch_notes,
    settling_notes,
)
from kdsweep.reporting.constraints import bound_sentences, nothing_within
from kdsweep.reporting.pareto import names_of
from kdsweep.reporting.results import Results
from kdsweep.reporting.summary import Best, Summary
from kdsweep.training.report import term_title

_NO_CONTROLS = "No controls: what the teachers changed cannot be told from this sweep."
_SEEDS = "Differences no larger than those between seeds show nothing"
_SHARED = "control is shared: it was trained once, at the middle of the search space's ranges"
_MIXED = "gain mixes the teacher's effect with that of other hyperparameters"
_OF_SEEN = (
    "mIoU counts the classes in labels or predictions, as kdsweep did when this experiment began: "
    "one pixel predicted as a class that no label has brings in an IoU of 0. Since 29 November "
    "2026 labels alone say which classes count, so newer experiments compare with it roughly."
)
_SELF_GAIN = (
    "gain over self-taught: student minus the same student taught by its own average on the same "
    "frames, likewise; what is left is the teacher's part."
)
_HEADROOM = (
    "headroom: what a student without a teacher gains from the labels that the data leave out, in "
    "as many steps; a teacher can hardly give more on these frames. One training each."
)
_TWO_CONTROLS = (
    "against itself: the same student on the same frames, unlabelled ones too, taught by "
    "the running average of its own weights; what is gained over it is the teacher's part. Whether "
    "a job is settled goes by the control without a teacher."
)
_EQUAL_TIME = (
    "against equal time: the same student without a teacher for more epochs, as many as take as "
    "long as the pair with its teacher, by steps that were timed before. Whether a job is settled "
    "goes by the control of as many epochs."
)
_UNSOLVED = 0.05  # an IoU below which a class is as good as unknown
_ONE_SIDED = 2.5  # of 100 intervals lie above zero where there is nothing


def notes(results: Results, *, brief: bool = False, luck: bool = True) -> list[str]:
    """Return the caveats that apply to these results.

    Args:
        results: The results.
        brief: Only those without which the numbers mislead.
        luck: Also what luck alone does, if that is not said beside the answer.
    """
    summary = results.summary
    bounds = bound_sentences(summary.constraints, summary.num_too_costly, summary.rejected)
    if summary.best is None:
        return bounds
    old = [_OF_SEEN] if summary.miou_over == SEEN else []
    if not results.confirmation.empty:
        num_jobs = results.confirmation["job"].nunique()
        several = [
            "Each interval speaks of one job. Where no teacher helps, one of "
            f"{num_jobs} jobs still shows a gain on a split in up to "
            f"{_ONE_SIDED * num_jobs:g} of 100 confirmations."
        ]
        return [
            "The jobs were chosen by their score in another sweep, and trained here on seeds that "
            "it had not used, each beside its exact control: the same student without a teacher, "
            "same batches, same initial weights.",
            "gain: mean difference over the seeds; 95 %: Student's t interval. The bootstrap "
            "interval beside it assumes less, but is too narrow with few seeds.",
            "validation: at each one's last epoch; test: the same students, scored once."
            if summary.select
            else "validation: each at its best epoch, which was chosen on the same frames, so its "
            "scores are somewhat too high; test: the same students, scored once on the test split.",
            *_of_further_controls(results),
            *settling_notes(results.confirmation),
            *last_epoch_notes(results.confirmation),
            *(several if num_jobs > 1 else []),
            *old,
        ]
    found = [
        *_of_priors(summary),
        *_behind(results),
        f"Each value is one training with one seed, at its {summary.select or 'best'} epoch on the "
        "validation split. "
        f"{_SEEDS}.",
    ]
    if summary.num_gains:
        found.append(
            f"gain: student minus control, both at their {summary.select or 'best'} within the "
            "same number of epochs."
            + (
                ""
                if summary.gains_matched
                else f" Each student's {_SHARED}, so a {_MIXED} and is by itself no sign of "
                "what the teacher does."
            )
        )
        if "self_gain" in results.gains and results.gains["self_gain"].notna().any():
            found.append(_SELF_GAIN)
        if "headroom" in results.gains:
            found.append(_HEADROOM)
        if luck:
            found.append(_luck(results, summary.best.number))
    elif summary.num_controls == 0:
        found.append(_NO_CONTROLS)
    if results.terms["verdict"].notna().any() and not brief:
        found.append(
            "negligible: less than 1 % of the student's gradient comes from this term, so it "
            "changes next to nothing; dominant: more than 95 %, so the labels hardly count. "
            "Another weight would test the loss better."
        )
    if summary.states["stopped"] > summary.num_too_costly and not brief:
        found.append(
            "Trials that were stopped early are shown with the score and epochs they had then: do "
            "not compare them directly with complete ones."
        )
    if not brief:
        found += _of_sampler(summary)
    if not results.front.empty:
        found += _of_front(summary.metrics)
    return [*found, *old, *bounds]


def _of_priors(summary: Summary) -> list[str]:
    known = [f"{formats.counted(n, 'trial')} of {name}" for name, n in summary.priors.items()]
    return [f"The sampler began with {' and '.join(known)}."] if known else []


def _of_further_controls(results: Results) -> list[str]:
    against = set(results.confirmation.get("against", ()))
    told = {ITS_OWN: _TWO_CONTROLS, EQUALLY_LONG: _EQUAL_TIME}
    return [note for kind, note in told.items() if kind in against]


def data_notes(summary: Summary) -> list[str]:
    """Return what must be known of the data where a number of theirs stands."""
    said = []
    for part in summary.parts:
        when = datetime.fromtimestamp(part["time"]).astimezone()
        trials = formats.counted(part["num_trials"], "trial")
        said.append(
            f"The data changed before the session of {when:%Y-%m-%d %H:%M} "
            f"({'; '.join(part['differences'])}). None of the {trials} before "
            "that is compared with a later one, or stands in a table."
        )
    if summary.data.get("other_data"):
        said.append(
            "These jobs were found on other data than they are confirmed on "
            f"({'; '.join(summary.data['other_data'])})."
        )
    said += [f"The teacher {doubt}" for doubt in teacher_doubts(summary.data)]
    return [*said, *(f"Data: {text}." for text in summary.data.get("caveats", ()))]


def warnings_of(results: Results, *, luck: bool = True) -> list[str]:
    """Return what makes the answer weaker than it looks, the gravest first; see :func:`notes`."""
    summary = results.summary
    return [
        *_state(summary),
        *([_sentence(summary.notice)] if summary.notice else []),
        *data_notes(summary),
        *_of_priors(summary),
        *(_of_best(results, summary.best, luck) if summary.best is not None else []),
        *_of_failures(results),
        *_of_sampler(summary),
        *bound_sentences(summary.constraints, summary.num_too_costly, summary.rejected),
    ]


def nothing_yet(summary: Summary, *, on_page: bool = False) -> str:
    """Return why there is no best student; the page leads to more."""
    if summary.num_too_costly:
        return nothing_within(summary.constraints)
    if summary.num_trials == 0 and on_page:
        return "No trial has been drawn yet, so there is nothing to answer."
    if summary.num_trials and summary.states["failed"] == summary.num_trials:
        if not on_page:
            return "Every trial failed before its first epoch was finished."
        return (
            "The only trial failed before its first epoch was finished. Its cause and log are "
            "under Cost."
            if summary.num_trials == 1
            else f"All {summary.num_trials} trials failed before their first epoch was "
            "finished. Their causes and logs are under Cost."
        )
    return "No trial has finished an epoch yet."


def score_on_test(results: Results, number: int) -> float | None:
    """Return what a trial has on the test split, if it was scored there."""
    if TEST_MIOU not in results.epochs:
        return None
    scores = results.epochs.loc[results.epochs["trial"] == number, TEST_MIOU].dropna()
    return None if scores.empty else float(scores.iloc[-1])


def _behind(results: Results) -> list[str]:
    """Say where the teacher of the best taught trial had nothing ahead of its student."""
    lead = lead_of_best(results)
    if lead is None:
        return []
    found = []
    if lead.value <= 0:
        scores = f"{formats.score(lead.teacher)} against {formats.score(lead.control)}"
        found.append(
            f"In trial {lead.trial}, the best with a teacher, the teacher was not ahead of the "
            f"student without it ({scores}): there was nothing to learn."
        )
    headroom = headroom_of(results, lead.trial)
    if headroom is not None and headroom <= 0:
        found.append(
            f"The student of trial {lead.trial}, the best with a teacher, gains nothing from the "
            "labels that are left out, so these frames leave little for a teacher to give."
        )
    return found


def _luck(results: Results, number: int) -> str:
    """Say it of the best trial's network, or of the one with most trials where that has none."""
    num = len(compared_with(results, number))
    if not num:
        known = results.gains[results.gains["gain"].notna()]
        num = int(known["student"].value_counts().iloc[0])
    return f"Each gain is one pair of trainings: {lottery(num)}."


def _of_best(results: Results, best: Best, luck: bool) -> list[str]:
    summary = results.summary
    if not results.confirmation.empty:
        return [*notes(results), *_of_classes(results, best.number)]
    again = summary.claims_of(best.number)
    found = [
        f"One seed only: each value is one training. {_SEEDS}, and the best of many is partly luck."
    ]
    if again:
        found = [
            "Each value of this sweep is one training with one seed, and the best of many is "
            "partly luck. What may be claimed of the best student is what its confirmation says."
        ]
    num_test = summary.data.get("num_test")
    is_tested = any(claim.split == "test" for claim in again)
    if not is_tested and score_on_test(results, best.number) is None:
        split = f"The test split ({num_test} frames)" if num_test else "A test split"
        found.append(
            f"{split} has never been scored. The scores are those of the validation split, which "
            "chose this student among all, and are therefore somewhat too high."
        )
    if summary.num_controls == 0:
        found.append(_NO_CONTROLS)
    elif best.gain is not None and not has_own_control(results, best.number):
        found.append(f"The {_SHARED}. The {_MIXED}.")
    found += _behind(results)
    if summary.num_gains and luck and not again:
        found.append(_luck(results, best.number))
    found += _of_classes(results, best.number)
    found += _of_terms(results, best.number)
    if not summary.select and best.best_epoch == best.epochs and best.epochs > 1:
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
            f"{formats.counted(len(unseen), 'class')} never seen in the validation split and left "
            f"out of the mean: {_listing(unseen)}"
        )
    missed = rows.loc[rows["student"] < _UNSOLVED, "class"].tolist()
    if missed:
        found.append(
            f"{formats.counted(len(missed), 'class')} that the best student hardly finds "
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
        terms_of = rows.loc[rows["trial"] == number, "term"]
        names = [term_title(name, " on unlabelled frames") for name in terms_of]
        if names:
            found.append(f"In the best trial, {formats.few(names)} {meaning}.")
        others = rows.loc[rows["trial"] != number, "trial"].nunique()
        if others:
            found.append(f"In {formats.counted(others, 'other trial')} a term is {verdict}.")
    return found


def _of_sampler(summary: Summary) -> list[str]:
    names = summary.at_random
    return [_sentence(random_note(summary.sampler, names))] if names else []


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
            " After running out of memory a trial continues with a smaller batch and as many "
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


def _of_front(metrics: Sequence[str]) -> list[str]:
    """Say by what difference one student is better than another."""
    noisy = {m: metric_of(m).noise for m in metrics if metric_of(m).noise}
    if not noisy:
        return []
    percent = formats.percent(max(noisy.values()))
    return [
        f"Measured costs ({names_of(list(noisy))}) that differ by less than {percent} % count as "
        "equal where students are compared in several metrics."
    ]


def _listing(names: list[str]) -> str:
    """Return the first names, ending the sentence."""
    text = formats.few(names)
    return text if text.endswith("…") else f"{text}."


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."
