"""The documentation as a site: ``make docs`` builds it, and fails for a link that leads nowhere."""

from pygments.lexers.special import TextLexer
from sphinx.highlighting import lexers

project = "kdsweep"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
html_theme = "furo"
html_title = "kdsweep"
html_show_sphinx = False
lexers["mermaid"] = TextLexer()  # drawn by code hosts; the site shows its source
