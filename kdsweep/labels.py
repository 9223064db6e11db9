"""The one convention about labels that every layer shares."""

VOID = 255
"""Class id of pixels that count nowhere: in no loss, no metric, no picture of errors."""
