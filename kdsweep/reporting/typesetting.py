"""Tables for papers written down, as Markdown and as LaTeX (booktabs).

Names come from users and data sets: in both they stay the text that they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kdsweep.plain_text import markdown, printable
from kdsweep.reporting.columns import Column


@dataclass(frozen=True)
class PaperTable:
    """One table.

    Attributes:
        name: Name of its files.
        caption: What it shows, in a sentence.
        columns: All with equally many cells.
        remarks: What has to be kept in mind about the numbers.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    remarks: Sequence[str] = field(default_factory=tuple)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the cells, row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))


def to_markdown(table: PaperTable) -> str:
    """Return a table in GitHub's Markdown, its remarks below it."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    lines = [f"**{markdown(table.caption)}**", ""]
    lines.append(line(markdown(column.header) for column in table.columns))
    lines.append(line("---" if column.text else "---:" for column in table.columns))
    for index, row in enumerate(table.rows()):
        cells = [markdown(cell) for cell in row]
        bold = [index in column.bold for column in table.columns]
        lines.append(line(f"**{c}**" if b else c for c, b in zip(cells, bold, strict=True)))
    if table.remarks:
        lines += ["", *(f"- {markdown(remark)}" for remark in table.remarks)]
    return "\n".join(lines) + "\n"


def to_latex(table: PaperTable) -> str:
    r"""Return a ``table`` that needs ``\usepackage{booktabs}``, its remarks as comments."""
    lines = ["% needs \\usepackage{booktabs}"]
    # A comment ends with its line; printable text has no line breaks.
    lines += [f"% {printable(remark)}" for remark in table.remarks]
    lines += ["\\begin{table}", "  \\centering", f"  \\caption{{{_latex(table.caption)}}}"]
    lines.append(f"  \\label{{tab:kdsweep-{table.name}}}")
    kinds = "".join("l" if column.text else "r" for column in table.columns)
    lines += [f"  \\begin{{tabular}}{{{kinds}}}", "    \\toprule"]
    lines.append(f"    {' & '.join(_latex(column.header) for column in table.columns)} \\\\")
    lines.append("    \\midrule")
    for index, row in enumerate(table.rows()):
        cells = [
            f"\\textbf{{{_latex(cell)}}}" if index in column.bold else _latex(cell)
            for cell, column in zip(row, table.columns, strict=True)
        ]
        lines.append(f"    {' & '.join(cells)} \\\\")
    lines += ["    \\bottomrule", "  \\end{tabular}", "\\end{table}"]
    return "\n".join(lines) + "\n"


_LATEX = {
    "\\": "\\textbackslash{}",
    "{": "\\{",
    "}": "\\}",
    "$": "\\$",
    "&": "\\&",
    "#": "\\#",
    "_": "\\_",
    "%": "\\%",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    "[": "{[}",  # behind the end of a row, these two would be its arguments
    "*": "{*}",
    '"': "\\texttt{\\char34}",  # the roman fonts of pdfTeX's default have only a curly one
    "`": "\\textasciigrave{}",
    "→": "$\\rightarrow$",
    "×": "$\\times$",
    "±": "$\\pm$",
    "–": "--",
}
# What pdfTeX knows besides ASCII with nothing but its defaults. At other characters it would stop.
_LATEX_LETTERS = (
    "¡¢£¤¥¦§¨©ª«¬®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖ×ØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõö÷øùúûüýÿ"
    "ĀāĂăĆćĈĉĊċČčĎďĒēĔĕĖėĚěĜĝĞğĠġĢĤĥĨĩĪīĬĭİıĴĵĹĺĽľŁłŃńŇňŌōŎŏŐőŒœŔŕŘřŚśŜŝŞşŠšŤťŨũŪūŬŭŮůŰűŴŵŶŷŸŹźŻżŽž"
    "—‘’“”†‡•…‰™"
)
# The zero byte stands for an escape of our own; see _latex.
_LATEX_UNKNOWN = f"[^\\0 -~→–{_LATEX_LETTERS}]+"


def _latex(text: str) -> str:
    """Return text as LaTeX shows it."""
    plain = printable(text)
    # Two hyphens would become a dash.
    apart = re.sub("-(?=-)", "-\0", plain)
    parts = re.split(f"({_LATEX_UNKNOWN})", apart)
    escaped = "".join(
        _unknown(part)
        if index % 2
        else "".join(_LATEX.get(character, character) for character in part)
        for index, part in enumerate(parts)
    )
    # A minus is as wide as a plus; a hyphen is not.
    return re.sub(r"(?:(?<=^)|(?<= ))-(?=[0-9.])", "$-$", escaped).replace("\0", "{}")


def _unknown(text: str) -> str:
    r"""Return characters for LuaTeX and XeTeX, which have ``\Umathcode``, or their numbers."""
    numbers = " ".join(f"U+{ord(character):04X}" for character in text)
    return f"\\ifdefined\\Umathcode {text}\\else {numbers}\\fi{{}}"
