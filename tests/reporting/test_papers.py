"""Tables for papers: right numbers, the best in bold, names that stay text."""

import re
import shutil
import subprocess

import pytest
from experiments_on_disk import results_of

from kdsweep.reporting.columns import Column, declared
from kdsweep.reporting.lengths import pairs_with_epochs
from kdsweep.reporting.page.rows import pair_rows
from kdsweep.reporting.papers import paper_tables
from kdsweep.reporting.typesetting import PaperTable, to_latex, to_markdown
from kdsweep.reporting.views import PAIRS

HOSTILE = [
    "a|b",
    "<img src=x onerror=alert(1)>",
    "[click](http://evil.example)",
    "**bold** _em_ `code`",
    "\\input{/etc/passwd}",
    "100% & $x^2$ #1 ~ {y}_z",
    "line\nbreak\x1b[31m",
    'quote" --dash',
]


def papers(story, **options):
    found = paper_tables(results_of(story.events), **options)
    return {table.name: table for table in found}


def markdown_rows(table):
    """The body's cells; an escaped bar divides nothing."""
    lines = [line for line in to_markdown(table).split("\n") if line.startswith("|")]
    return [re.split(r"(?<!\\) \| ", line[2:-2]) for line in lines[2:]]


def latex_rows(table):
    body = to_latex(table).split("\\midrule\n")[1].split("    \\bottomrule")[0]
    return [line.strip().removesuffix(" \\\\").split(" & ") for line in body.splitlines()]


def test_markdown_has_the_ledgers_numbers_with_units(mixed):
    tables = papers(mixed)
    text = to_markdown(tables["trials"])
    assert text.startswith("**Best students, roadscenes, validation split**\n\n| trial | teacher")
    assert "| mIoU (%) | gain (points) | teacher mIoU (%) | parameters (M) |" in text
    assert markdown_rows(tables["trials"])[0][:7] == [
        "1", "resnet34", "resnet18", "**55.0**", "+5.0", "60.0", "11.2"
    ]  # fmt: skip
    assert markdown_rows(tables["pairs"])[1] == [
        "none", "resnet18", "1", "50.0", "3", "50.0", "3", "–", "–", "11.2"
    ]  # fmt: skip
    assert markdown_rows(tables["pairs"])[2] == [
        "resnet50", "resnet18", "2", "36.0", "1 of 3", "30.5", "1 of 3", "**+6.0**", "+0.5", "11.2"
    ]  # fmt: skip
    assert markdown_rows(tables["pairs"])[3][3:9] == ["–"] * 6
    assert "- generated scenes: these scores say nothing about real roads" in text


def test_the_better_of_student_and_control_is_bold(mixed):
    tables = papers(mixed)
    gains = markdown_rows(tables["gains"])
    assert gains[0] == ["1", "resnet34", "resnet18", "3", "**55.0**", "50.0", "+5.0", "yes"]
    assert gains[2][4:] == ["25.0", "**30.0**", "-5.0", "yes"]
    # Of three classes one is equal in both; the third is missing from the student.
    assert markdown_rows(tables["classes"]) == [
        ["road", "90.0", "90.0", "90.0", "+0.0"],
        ["car", "**50.0**", "40.0", "60.0", "+10.0"],
        ["pole", "–", "20.0", "30.0", "–"],
        ["mean", "70.0", "50.0", "60.0", "+20.0"],
    ]


def test_terminal_page_and_papers_head_a_column_alike(mixed):
    results = results_of(mixed.events)
    pairs = pairs_with_epochs(results.pairs)
    printed = declared(PAIRS, pairs, "mIoU", without=("num_too_costly", "best_trial"))
    on_page = {f"{name} {unit}".strip() for name, unit, _ in pair_rows(results, "mIoU").headers}
    in_papers = {column.header for column in papers(mixed)["pairs"].columns}
    # The terminal is narrow, and papers give shares in per cent.
    assert {c.header.replace("\n", " ") for c in printed} - on_page == {"params M", "its gain"}
    plain = {re.sub(r" \((%|points)\)", "", h) for h in in_papers}
    assert {re.sub(r"\((M|epochs)\)", r"\1", h) for h in plain} <= on_page


def test_latex_has_the_same_cells(mixed):
    tables = papers(mixed)
    for table in tables.values():
        as_markdown = [
            [re.sub(r"^\*\*(.*)\*\*$", r"\\textbf{\1}", cell) for cell in row]
            for row in markdown_rows(table)
        ]
        as_latex = [
            [cell.replace("$-$", "-").replace("--", "–").replace("\\_", "_") for cell in row]
            for row in latex_rows(table)
        ]
        assert as_latex == as_markdown
    text = to_latex(tables["trials"])
    assert "\\begin{tabular}{rllrrrrrrr}" in text
    assert "mIoU (\\%) & gain (points)" in text
    assert [line for line in text.splitlines() if "rule" in line] == [
        "    \\toprule", "    \\midrule", "    \\bottomrule"
    ]  # fmt: skip


def test_the_first_of_many_are_shown_and_counted(mixed):
    tables = papers(mixed, top=2)
    assert tables["trials"].caption == "Best students (2 of 4), roadscenes, validation split"
    assert len(tables["trials"].rows()) == len(tables["gains"].rows()) == 2


def test_what_looks_equal_is_bold_together_and_what_is_alone_is_not(story):
    story.sweep(num_controls=0).session()
    for number, value in enumerate([0.5551, 0.5549, 0.41]):
        story.trial(number).run(number, [value])
    column = papers(story)["trials"].columns[3]
    assert list(column.cells) == ["55.5", "55.5", "41.0"]
    assert column.bold == {0, 1}
    assert papers(story)["pairs"].columns[3].bold == frozenset()


def test_the_least_of_losses_is_no_gain(story):
    story.sweep().session().trial(0, teacher=None).run(0, [0.5])
    story.trial(1, control=0).run(1, [0.4]).trial(2, control=0).run(2, [0.3])
    assert [row[4] for row in markdown_rows(papers(story)["trials"])] == ["–", "-10.0", "-20.0"]


def test_other_metrics_are_not_turned_into_percent(story):
    story.sweep(metric="student/loss").session().trial(0).run(0, [1.5])
    table = papers(story)["trials"]
    assert table.columns[3].header == "student/loss"
    assert list(table.columns[3].cells) == ["1.5"]


@pytest.mark.parametrize("events", ["none", "failed"])
def test_empty_tables_keep_their_headers(story, events):
    if events == "failed":
        story.sweep().session().trial(0).start(0).fail(0, "error", "boom")
    for table in papers(story).values():
        assert "| --- |" in to_markdown(table)
        assert to_latex(table).count("{") == to_latex(table).count("}")


def test_hostile_names_stay_text_in_markdown():
    table = PaperTable("x", HOSTILE[1], [Column("class", HOSTILE, text=True)], HOSTILE)
    text = to_markdown(table)
    assert len([line for line in text.split("\n") if line.startswith("|")]) == 2 + len(HOSTILE)
    assert "\x1b" not in text
    assert "<" not in text
    assert "http://" not in text
    rows = [row[0] for row in markdown_rows(table)]
    assert rows[0] == "a\\|b"
    assert rows[1] == "&lt;img src=x onerror=alert(1)&gt;"
    assert rows[2] == "\\[click\\](http&#58;//evil.example)"
    assert rows[3] == "\\*\\*bold\\*\\* \\_em\\_ \\`code\\`"
    assert rows[6] == "line break·\\[31m"


def test_hostile_names_stay_text_in_latex():
    table = PaperTable("x", HOSTILE[4], [Column("class", HOSTILE, text=True)], HOSTILE)
    text = to_latex(table)
    rows = [row for line in latex_rows(table) for row in [" & ".join(line)]]
    assert rows[0] == "a\\textbar{}b"
    assert rows[4] == "\\textbackslash{}input\\{/etc/passwd\\}"
    assert rows[5] == "100\\% \\& \\$x\\textasciicircum{}2\\$ \\#1 \\textasciitilde{} \\{y\\}\\_z"
    assert rows[7] == "quote\\texttt{\\char34} -{}-dash"
    assert "\\caption{\\textbackslash{}input" in text
    # Nothing but remarks stands in comments, and a comment does not leave its line.
    comments = [line for line in text.splitlines() if line.startswith("%")]
    assert len(comments) == 1 + len(HOSTILE)
    assert not re.search(r"(?<!\\)[#&](?! )", "".join(rows))


def test_names_keep_their_letters_in_both():
    table = PaperTable("x", "c", [Column("s", ["mobilenet_v2", "resnet34→résnet"], text=True)])
    assert [row[0] for row in markdown_rows(table)] == ["mobilenet_v2", "resnet34→résnet"]
    assert [row[0] for row in latex_rows(table)] == [
        "mobilenet\\_v2", "resnet34$\\rightarrow$résnet"
    ]  # fmt: skip


def test_what_was_confirmed_has_its_spread_and_interval(story):
    assert "confirmation" not in papers(story)
    gains = [0.01, 0.03, 0.02]
    story.sweep(trials=3, num_controls=3, epochs=1).session()
    for seed, gain in enumerate(gains):
        for number, teacher, value in (
            (2 * seed, "resnet34", 0.4 + gain),
            (2 * seed + 1, None, 0.4),
        ):
            control = None if teacher is None else number + 1
            params = {} if teacher is None else {"job": "trial 0007"}
            story.trial(number, teacher=teacher, control=control, params=params)
            story.run(number, [value])
    table = papers(story)["confirmation"]
    assert table.caption.startswith("Jobs trained again on fresh seeds, mean ± standard deviation")
    (row,) = markdown_rows(table)
    # Half of the interval is 4.303 times 1.0 divided by the root of 3.
    assert row == [
        "resnet34", "resnet18", "trial 0007", "validation", "3", "42.0 ± 1.0", "40.0 ± 0.0",
        "+2.0", "-0.5 to 4.5",
    ]  # fmt: skip
    (latex,) = latex_rows(table)
    assert latex[5] == "42.0 $\\pm$ 1.0"
    assert latex[8] == "$-$0.5 to 4.5"
    assert "bold" not in to_latex(table)


def compiled(tables, folder):
    """Text of the PDF that pdfTeX makes of tables, as somebody's paper would."""
    for table in tables:
        (folder / f"{table.name}.tex").write_text(to_latex(table))
    inputs = "\n".join(f"\\input{{{table.name}}}" for table in tables)
    (folder / "paper.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n"
        # Wide enough for names that nobody would give.
        "\\pdfpagewidth=90cm \\textwidth=80cm\n"
        f"\\begin{{document}}\n{inputs}\n\\end{{document}}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert b"Missing character" not in done.stdout
    assert (folder / "paper.pdf").stat().st_size > 1000
    if shutil.which("pdftotext") is None:
        return None
    text = subprocess.run(["pdftotext", "-layout", "paper.pdf", "-"], cwd=folder,
                          capture_output=True, check=True, timeout=60)  # fmt: skip
    return text.stdout.decode()


@pytest.mark.skipif(
    shutil.which("pdflatex") is None,
    reason="there is no pdflatex (apt-get install texlive-latex-base)",
)
def test_latex_compiles_whatever_the_names(story, tmp_path):
    classes = [*HOSTILE, "[x] first", "*y", "ä→ö ß é", "中文 😀 Ω", "^caret`", "-1.5", "<<>>--''``"]
    data = {"source": "road_scenes & 50% #1", "classes": classes, "image_size": [96, 128]}
    story.sweep(data=data).session().trial(0, student="res_net18%", teacher=None)
    ious = [0.5] * len(classes)
    story.run(0, [0.3], classes={"student": ious})
    for number, teacher in enumerate((*HOSTILE, *classes), start=1):
        story.trial(number, student="res_net18%", teacher=teacher, control=0)
        story.run(number, [0.1 + 0.01 * number], classes={"student": ious, "teacher": ious})
    text = compiled(papers(story, top=50).values(), tmp_path)
    if text is not None:
        for name in ("res net18%", "[x] first", "*y", "−1.5", "U+4E2D U+6587", "100% & $x2"):
            plain = text.replace("_", " ").replace("ˆ", "").replace("^", "")
            assert name in " ".join(plain.split()), name


def test_latex_keeps_other_scripts_for_engines_that_know_them():
    table = PaperTable("t", "é 中文", [Column("h", ["α"], text=True)])
    text = to_latex(table)
    assert "\\caption{é \\ifdefined\\Umathcode 中文\\else U+4E2D U+6587\\fi{}}" in text
    assert "\\ifdefined\\Umathcode α\\else U+03B1\\fi{}" in text
