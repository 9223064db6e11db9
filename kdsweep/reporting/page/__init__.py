"""The report as one page: everything in one file that opens from disk and asks no network."""

from __future__ import annotations

from kdsweep.reporting.page.page import render_page, write_page

__all__ = ["render_page", "write_page"]
