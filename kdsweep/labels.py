"""The one convention about labels that every layer shares."""

VOID = 255
"""Class id of pixels that count nowhere: in no loss, no metric, no picture of errors."""


def training_frames(labelled: int, unlabelled: int | None = None) -> str:
    """Return how many frames there are to train on: ``163 labelled and 204 unlabelled training``.

    Args:
        labelled: Those with labels.
        unlabelled: Those without; nothing is said of none.
    """
    if not unlabelled:
        return f"{labelled} training"
    return f"{labelled} labelled and {unlabelled} unlabelled training"
