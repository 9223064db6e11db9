"""The answer for who has ten seconds: one line, the gravest doubt, a page of Markdown."""

from __future__ import annotations

from kdsweep.ledger.trials import ITSELF
from kdsweep.plain_text import printable
from kdsweep.reporting import formats
from kdsweep.reporting.caveats import warnings_of
from kdsweep.reporting.comparisons import compared_with
from kdsweep.reporting.confirmation import claims_in
from kdsweep.reporting.next_steps import next_commands
from kdsweep.reporting.results import Results
from kdsweep.reporting.summary import Best
from kdsweep.reporting.tables import has_teacher
from kdsweep.reporting.verdict import claims_about, verdict

_MOST_TRIALS = 5


def headline(results: Results, metric: str) -> str | None:
    """Return the answer in one line: network, size, score, what the teacher did.

    Args:
        results: What :func:`kdsweep.reporting.load` returned.
        metric: The sweep's metric as axes name it.

    Returns:
        ``None`` before there is a best student.
    """
    best = results.summary.best
    if best is None:
        return None
    facts = [best.student]
    if best.params_m is not None:
        facts.append(f"{best.params_m:.1f} M parameters")
    return f"{', '.join([*facts, _value(results, best, metric)])}; {_of_teacher(results, best)}"


def _value(results: Results, best: Best, metric: str) -> str:
    if results.confirmation.empty:
        return f"{formats.score(best.value)} {metric}"
    claim = claims_in(results.confirmation)[0]
    seeds = formats.counted(claim.seeds, "seed")
    return f"{formats.spread(claim.mean, claim.sd)} {metric} ({claim.split}, {seeds})"


def _of_teacher(results: Results, best: Best) -> str:
    """Say what a teacher did, and no more than one training each can show."""
    if not results.confirmation.empty:
        return claims_in(results.confirmation)[0].claim
    claims = claims_about(results, best)
    if claims:
        return f"confirmed on {formats.counted(claims[0].seeds, 'fresh seed')}: {claims[0].claim}"
    if best.teacher is None:
        rows = compared_with(results, best.number)
        if rows[has_teacher(rows)].empty:
            return "what a teacher would add is not known"
        return "no teacher did better"
    what = "its own average" if best.teacher == ITSELF else "its teacher"
    if best.gain is None:
        return f"what {what} added is not known"
    if formats.score(abs(best.gain)) == formats.score(0):
        return f"{what} changed nothing in one training each"
    side = "ahead of" if best.gain > 0 else "behind"
    gain = formats.score(abs(best.gain))
    return f"{gain} {side} the same student without a teacher, in one training each"


def doubts(results: Results) -> list[str]:
    """Return what makes the answer weaker than it looks, the gravest first."""
    found = verdict(results)
    return warnings_of(results, luck=found is None or not found.tells_luck)


def as_markdown(results: Results, metric: str, picture: str) -> str:
    """Return a page of Markdown, with a picture by its address, that can be pasted or mailed."""
    summary = results.summary
    lines = [f"# {summary.name or 'sweep'}", ""]
    said = headline(results, metric)
    if said is None:
        lines += ["There is no answer yet.", ""]
    else:
        lines += [f"**{said.rstrip('.')}.**", "", f"![{metric} over size]({picture})", ""]
    lines += [f"> {doubt}" for doubt in doubts(results)[:1]]
    found = verdict(results)
    if found is not None:
        lines += ["", *(f"- {sentence}" for sentence in found.sentences)]
    elif not results.confirmation.empty:
        lines += ["", *(f"- {claim.sentence}" for claim in claims_in(results.confirmation))]
    ranked = results.ranked().head(_MOST_TRIALS)
    if len(ranked):
        lines += ["", f"| trial | teacher → student | {metric} | epochs | M parameters |"]
        lines += ["| --: | :-- | --: | --: | --: |"]
        for row in ranked.to_dict("records"):
            epochs = formats.trained(row["epochs"], row["planned_epochs"])
            cells = [row["number"], row["label"], formats.score(row["value"]), epochs]
            lines.append(
                f"| {' | '.join(map(_cell, cells))} | {formats.number(row['params_m'], '.1f')} |"
            )
    if commands := next_commands(results):
        lines += ["", "Next:", "", *(f"- `{command}`: {why}" for command, why in commands)]
    return "\n".join(map(printable, lines)) + "\n"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("<", "&lt;")
