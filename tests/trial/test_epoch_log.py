"""What a trial's log says of terms on frames without labels."""

from kdsweep.training.report import EpochReport, term_title
from kdsweep.trial.epoch_log import LopsidedTerms, epoch_line

METRICS = {"student/miou": 0.4, "student/loss": 1.0, "student/supervised": 0.8, "student/lr": 0.001}


def report(**terms: float) -> EpochReport:
    """An epoch whose terms have these shares of the gradient."""
    metrics = dict(METRICS)
    for name, share in terms.items():
        name = name.replace("__", "/")
        metrics |= {f"student/distill/{name}": 0.1, f"student/weighted/{name}": 0.2}
        metrics |= {f"student/grad_share/{name}": share, f"student/ramp/{name}": 1.0}
    return EpochReport(1, metrics)


def test_both_parts_of_a_term_are_told() -> None:
    line = epoch_line(report(pixel_kl=0.3, unlabelled__pixel_kl=0.2), 3)
    assert "pixel_kl 0.1 weighted 0.2 (30.0% of the gradient)" in line
    assert "pixel_kl, unlabelled 0.1 weighted 0.2 (20.0% of the gradient)" in line
    assert "confident" not in line


def test_the_share_of_confident_pixels_is_told() -> None:
    made = report(pixel_kl=0.3)
    made.metrics["student/confident"] = 0.631
    assert "confident 63.1%" in epoch_line(made, 3)


def test_each_part_is_judged_by_itself_and_says_which_key_to_turn() -> None:
    terms = LopsidedTerms()
    labelled, unlabelled = terms.look_at(report(pixel_kl=0.97, unlabelled__pixel_kl=0.002))
    assert labelled.startswith("distillation term pixel_kl is dominant")
    assert labelled.endswith("try a smaller distill.pixel_kl.weight")
    assert unlabelled.startswith("distillation term pixel_kl on unlabelled frames is negligible")
    assert unlabelled.endswith("try a larger distill.unlabelled_weight")
    assert terms.look_at(report(unlabelled__pixel_kl=0.002)) == []


def test_names_of_terms_for_people() -> None:
    assert term_title("unlabelled/pixel_kl") == "pixel_kl, unlabelled"
    assert term_title("pixel_kl") == "pixel_kl"
