"""The page as a reader opens it: in a browser where there is one, and as text."""

import csv
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments_on_disk import results_of
from PIL import Image

from kdsweep.ledger import Experiment, TrialFolder
from kdsweep.reporting import write_page
from kdsweep.reporting.page import render_page

HOSTILE = "<img src=x onerror=\"document.title='broken'\">"
PARTS = (
    "answer", "pairs", "losses", "cost-of-inference", "training", "classes", "pictures", "cost",
    "provenance", "terms",
)  # fmt: skip
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

# Records whatever goes wrong from the first moment on: it stands before all other scripts.
LISTEN = """<script>
window.problems = [];
window.onerror = (message) => problems.push(String(message));
window.onunhandledrejection = (event) => problems.push(String(event.reason));
document.addEventListener("securitypolicyviolation",
  (event) => problems.push(`blocked ${event.blockedURI}`));
console.error = (...texts) => problems.push(texts.join(" "));
</script>"""

# Works once everything is drawn and leaves what it found in the document.
ACT = """<script>
const wait = setInterval(() => {
  if (document.documentElement.dataset.drawn !== "all") return;
  clearInterval(wait);
  const found = (() => { %s })();
  const asked = performance.getEntriesByType("resource").map((entry) => entry.name);
  const result = { found, problems, requests: asked.filter((name) => !name.startsWith("data:")) };
  const place = document.createElement("script");
  place.type = "application/json";
  place.id = "result";
  place.textContent = JSON.stringify(result).replaceAll("<", "\\\\u003c");
  document.body.append(place);
}, 20);
</script>"""


def text_of(page: str) -> str:
    """What a reader reads, without scripts, styles and markup."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def browse(page: Path, script: str, width: int = 1200) -> Any:
    """Open a page, let a script look at it once all is drawn, and return what that returns."""
    if BROWSER is None:
        pytest.skip("there is no Chromium to open the page with (apt-get install chromium)")
    copy = page.with_name("opened.html")
    text = page.read_text(encoding="utf-8")
    text = text.replace("<title>", f"{LISTEN}<title>", 1)
    head, end = text.rsplit("</body>", 1)
    copy.write_text(f"{head}{ACT % script}</body>{end}", encoding="utf-8")
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu",
        "--enable-unsafe-swiftshader", "--disable-background-networking",
        "--disable-dev-shm-usage", "--no-first-run", f"--window-size={width},2000",
        "--virtual-time-budget=600000", "--dump-dom",
    ]  # fmt: skip
    # On a busy machine virtual time may run out, or Chromium end, before the page is drawn.
    for attempt in (1, 2):
        profile = f"--user-data-dir={page.parent / f'profile-{width}-{attempt}'}"
        done = subprocess.run(
            [*command, profile, copy.as_uri()], capture_output=True, text=True, timeout=240
        )
        found = re.search(r'id="result">(.*?)</script>', done.stdout, flags=re.S)
        if found is not None:
            break
        print(f"Chromium, attempt {attempt}: no result, exit code {done.returncode}")
    assert found is not None, (done.stdout[-500:], done.stderr[-2000:])
    result = json.loads(found.group(1))
    assert result["problems"] == []
    assert result["requests"] == []
    return result["found"]


def write_frame(folder: TrialFolder, index: int, shown: tuple[str, ...]) -> None:
    """Pictures of a frame, grey but for its classes."""
    folder.frames.mkdir()
    ids = np.arange(20 * 40, dtype=np.uint8).reshape(20, 40) % 3
    ids[0] = 255
    for what in shown:
        picture = Image.fromarray(ids)
        picture.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200] + [0] * 759)
        if what == "image":
            picture = Image.new("RGB", (40, 20), (90, 90, 90))
        picture.save(folder.frame(index, what))


@pytest.fixture
def sweep(story: Any) -> Any:
    """Fourteen trials with a name that is markup, two settings, terms, and a failure."""
    classes = {"student": [0.9, 0.5, None], "teacher": [0.9, 0.6, None]}
    story.sweep(trials=15, data={"source": "own", "classes": ["road", HOSTILE, "pole"]}).session()
    story.trial(0, teacher=None).run(0, [0.30, 0.50, 0.45], classes={"student": [0.9, 0.4, None]})
    for number in range(1, 15):
        params = {
            "distill.pixel_kl.weight": 0.01 * 2**number,
            "train.optimizer": f"<b>{number % 2}",
        }
        story.trial(
            number, student=HOSTILE if number == 3 else "resnet18", control=0, params=params
        )
        story.run(
            number, [0.2 + number / 100, 0.4 + number / 100, 0.39], teacher=0.7, classes=classes,
            terms={"pixel_kl": (1.0, 0.3, 1.0), HOSTILE: (1.0, 0.001, 1.0)},
            costs={
                "student/macs_g": 0.517, "student/latency_ms": 12.3, "student/latency_p95_ms": 14.6,
                "student/inference_mb": 59.81, "teacher/latency_ms": 40.0,
            },
        )  # fmt: skip
    story.trial(15, teacher="resnet50").start(15).fail(15, "error", f"no such thing: {HOSTILE}")
    return story.add("done")


@pytest.fixture
def page(sweep: Any, tmp_path: Path) -> Path:
    """The page of an experiment with all its files."""
    experiment = Experiment.create(tmp_path, "tiny")
    experiment.space_yaml.write_text(f"name: tiny  # {HOSTILE}\n")
    experiment.spec_json.write_text('{"name": "tiny"}')
    environment = {"seeds": {"sampler": 3}, "code": {"commit": "abc123", "dirty": True}}
    experiment.environment_json.write_text(
        json.dumps({**environment, "command": ["kdsweep", "run", "my space.yaml"], "gpus": []})
    )
    best = experiment.trial(14).create()
    best.job_yaml.write_text("train: {epochs: 3}\n")
    write_frame(best, 7, ("image", "truth", "teacher", "student"))
    write_frame(experiment.trial(0).create(), 7, ("student",))
    counts = {"student": [[90, 10, 0], [5, 45, 0], [0, 0, 0]]}
    for number, matrix in ((14, counts), (0, {"student": [[80, 20, 0], [10, 40, 0], [0, 0, 0]]})):
        folder = experiment.trial(number)
        folder.best.mkdir()
        known = {"epoch": 2, "classes": ["road", HOSTILE, "pole"], **matrix}
        folder.confusion.write_text(json.dumps(known))
    conditions = {"device": f"Chip {HOSTILE}", "num_threads": 3, "precision": "bfloat16"}
    best.inference.write_text(json.dumps({"student": conditions}))
    hostile = experiment.trial(3).create()
    hostile.frames.mkdir()
    hostile.frame(7, "truth").write_bytes(b"not a picture")
    results = results_of(sweep.events, folder=experiment.path)
    return write_page(results, experiment.report)


def test_every_part_says_what_it_is_about(page: Path) -> None:
    text = text_of(page.read_text())
    for sentence in (
        "Best: resnet34→resnet18, trial 14: mIoU 0.540",
        "With its teacher it was 0.040 ahead of the same student without one (trial 0)",
        "the best of 13 trials would be ahead of its control in 92 of 100 sweeps, by luck alone",
        "One seed only",
        "has never been scored",
        "1 class never seen in the validation split and left out of the mean: pole",
        "changes next to nothing",
        "1 trial failed",
        f"no such thing: {HOSTILE}",
        "trials/0015/log.txt",
        "abc123, with uncommitted changes",
        "kdsweep run 'my space.yaml'",
        "sampler 3",
        "trials/0014/job.yaml",
        f"name: tiny # {HOSTILE}",
        "train: {epochs: 3}",
        "Trial 14, resnet34→resnet18: 0.540",
        "It takes 12.3 ms for a frame at the median, 14.6 ms at the 95th percentile (its teacher "
        f"40.0 ms; measured on Chip {HOSTILE}, 3 CPU threads, bfloat16), 0.517 billion "
        "multiply-accumulates and 59.8 MB of memory at most.",
        "image truth teacher 100 % right student 100 % right control 100 % right errors of the",
        f"road {HOSTILE} pole void, not scored",
    ):
        assert sentence in text, sentence


def test_nothing_is_fetched_and_names_are_escaped(page: Path) -> None:
    text = page.read_text()
    assert not re.search(
        r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(?!data:)[^\"'#>]", text
    )
    assert HOSTILE not in text
    assert "default-src 'none'" in text
    assert text.count("<img src=") == 6
    assert '<img src="data:image/png;base64,' in text


def test_the_numbers_of_every_figure_are_written(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r'href="figures/([^"]+\.csv)"', text))
    assert {path.name for path in (page.parent / "figures").iterdir()} == named
    with (page.parent / "figures" / "best-cohort.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {"epoch": "2", "student": "0.54", "teacher": "0.7", "control": "0.5"}


def test_writing_again_leaves_no_old_figures(page: Path, mixed: Any) -> None:
    write_page(results_of([]), page.parent)
    assert list((page.parent / "figures").iterdir()) == []
    assert "No trial has been drawn yet" in text_of(page.read_text())
    assert page.stat().st_size < 100_000


def test_in_a_browser(page: Path) -> None:
    """Everything is drawn, sorts and filters; no error, no request, no name taken for markup."""
    found = browse(
        page,
        """
        const cells = (table, column) => [...table.querySelectorAll("tbody tr")]
          .filter((row) => !row.hidden).map((row) => row.cells[column].textContent);
        const table = document.querySelector('[data-table="trials"] table');
        const headers = [...table.tHead.rows[0].cells];
        const column = headers.findIndex((cell) => cell.textContent.startsWith("trial"));
        const before = cells(table, column);
        headers[column].querySelector("button").click();
        const down = cells(table, column);
        headers[column].querySelector("button").click();
        const up = cells(table, column);
        const input = document.querySelector('[data-table="trials"] input');
        input.value = "ONERROR";
        input.dispatchEvent(new Event("input"));
        const labels = [...document.querySelectorAll(".plot text")].map((text) => text.textContent);
        const curves = document.querySelector('[data-figure="curves"]');
        const texts = curves.data.map((trace) => trace.hovertext || []);
        const named = texts.findIndex((all) => all.some((text) => text.includes("onerror")));
        const point = texts[named].findIndex((text) => text.includes("onerror"));
        Plotly.Fx.hover(curves, [{ curveNumber: named, pointNumber: point }]);
        const hover = [...curves.querySelectorAll(".hoverlayer text")]
          .map((text) => text.textContent);
        const matrix = document.querySelector('[data-figure="confusion"]');
        Plotly.Fx.hover(matrix, { xval: 0, yval: 1 }, "xy");
        const cell = [...matrix.querySelectorAll(".hoverlayer text")]
          .map((text) => [...text.querySelectorAll("tspan")].map((line) => line.textContent));
        const unresolved = [...document.querySelectorAll(".plot *")]
          .filter((node) => [...node.attributes].some((each) => each.value.includes("var(--")));
        return {
          cell: cell.flat().join(" "),
          swatch: getComputedStyle(document.querySelectorAll(".legend span")[1]).backgroundColor,
          hover: hover.join(" "), unresolved: unresolved.length,
          elements: document.querySelectorAll(".plot img, .plot b").length,
          parts: [...document.querySelectorAll("section.part")].map((part) => part.id),
          plots: [...document.querySelectorAll(".plot")].map((plot) => plot.dataset.figure),
          drawn: [...document.querySelectorAll(".plot[data-drawn] .main-svg")].length,
          errors: [...document.querySelectorAll(".plot .error")].map((text) => text.textContent),
          buttons: [...new Set([...document.querySelectorAll(".modebar-btn")]
            .map((button) => button.dataset.title))],
          before, down, up, sorted: headers[column].getAttribute("aria-sort"),
          filtered: cells(table, column),
          count: document.querySelector('[data-table="trials"] output').textContent,
          align: getComputedStyle(table.rows[1].cells[column]).textAlign,
          pictures: [...document.images].map((image) => [image.naturalWidth, image.complete]),
          labels, title: document.title,
        };
        """,
    )  # fmt: skip
    assert tuple(found["parts"]) == PARTS
    assert {"pairs", "pair-gains", "importance", "parallel", "shares", "curves"} <= set(
        found["plots"]
    )
    assert {"accuracy-latency", "confusion", "confusion-gain"} <= set(found["plots"])
    assert "label <img src=x onerror=" in found["cell"]
    assert "student: 10.00 % (5 pixels)" in found["cell"]
    assert "control: 20.00 % (10 pixels)" in found["cell"]
    assert "difference -10.00 points" in found["cell"]
    assert found["swatch"] == "rgb(0, 200, 0)"
    assert found["drawn"] >= len(found["plots"]) >= 12
    assert found["errors"] == []
    assert {"Share chart...", "Edit in Chart Studio"}.isdisjoint(found["buttons"])
    taught = [str(number) for number in range(14, 0, -1)]
    assert found["before"] == [*taught[:4], "0", *taught[4:]]
    assert found["down"] == [*taught, "0"]
    assert found["up"] == found["down"][::-1]
    assert found["sorted"] == "ascending"
    assert (found["filtered"], found["count"]) == (["3"], "1 of 15")
    assert found["align"] == "right"
    assert found["pictures"] == [[40, True]] * 6
    assert "<img src=x onerror=" in found["hover"]
    assert found["elements"] == found["unresolved"] == 0
    assert found["title"] == "tiny – kdsweep report"
    assert any(label.startswith("<img src=x") for label in found["labels"])
    assert {"<b>0", "<b>1"} <= set(found["labels"])


def test_nothing_is_wider_than_a_phone(page: Path) -> None:
    """Wide tables and figures scroll in themselves, the page does not."""
    found = browse(
        page,
        """
        const inside = (node) => node.closest(".scroll") !== null;
        const wide = [...document.querySelectorAll("main *")]
          .filter((node) => !inside(node) && node.getBoundingClientRect().right > innerWidth + 1);
        return { width: innerWidth, page: document.documentElement.scrollWidth,
                 wide: wide.map((node) => node.outerHTML.slice(0, 80)) };
        """,
        width=500,
    )
    assert found["page"] <= found["width"] <= 500
    assert found["wide"] == []


def test_the_first_column_of_a_table_stays_on_a_phone(page: Path) -> None:
    found = browse(
        page,
        """
        const frame = document.querySelector('[data-table="trials"] .scroll');
        frame.scrollLeft = 200;
        const left = (node) => Math.round(node.getBoundingClientRect().left);
        const cells = frame.querySelector("tbody tr").cells;
        return { scrolled: frame.scrollLeft, frame: left(frame), first: left(cells[0]),
                 second: left(cells[1]) };
        """,
        width=500,
    )
    assert found["scrolled"] == 200
    assert found["first"] == pytest.approx(found["frame"], abs=2)
    assert found["second"] < found["frame"]


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("nothing", "The ledger is empty"),
        ("no trial", "No trial has been drawn yet"),
        ("waiting", "No trial has finished an epoch yet"),
        ("failed", "The only trial failed before its first epoch"),
        ("one", "trial 0: mIoU 0.400"),
        ("died", "has died: 1 of 4 trials have ended. It can be resumed"),
        ("running", "still running: 1 of 4 trials have ended"),
        ("retried", "started again after failures (1× oom)"),
    ],
)
def test_pages_of_sweeps_with_little_in_them(kind: str, sentence: str, story: Any) -> None:
    if kind != "nothing":
        story.sweep().session()
    if kind not in ("nothing", "no trial"):
        story.trial(0)
    if kind == "failed":
        story.start(0).fail(0, "oom", "out of memory")
    if kind == "retried":
        story.start(0).fail(0, "oom", "out of memory", retry=True)
    if kind in ("one", "died", "running", "retried"):
        story.run(0, [0.4])
    alive = False if kind == "died" else None
    page = render_page(results_of(story.events, driver_alive=alive))
    text = text_of(page)
    assert sentence in text
    for part in PARTS:
        assert f'id="{part}"' in page
    assert "nan" not in text.lower().split()


def test_the_mixed_sweep_has_a_gain_in_words(mixed: Any) -> None:
    text = text_of(render_page(results_of(mixed.events)))
    assert "With its teacher it was 0.050 ahead of the same student without one" in text
    assert "in one pair of trainings, which is no proof" in text
    assert "Generated scenes: these scores say nothing about real roads." in text
    assert "Stopping weak trials early saved about" in text


def test_a_confirmation_says_what_may_be_claimed(story: Any) -> None:
    story.sweep(epochs=1).session()
    for seed, gain in enumerate((0.02, 0.03, 0.04)):
        student, control = 2 * seed, 2 * seed + 1
        story.trial(student, control=control, params={"job": "trial 0007", "train.seed": seed})
        story.trial(control, teacher=None)
        for number, value in ((control, 0.4), (student, 0.4 + gain)):
            story.start(number).epoch(number, 1, value, "complete", test=value)
    text = text_of(render_page(results_of(story.add("done").events)))
    assert "trial 0007 (resnet18, taught by resnet34), on the test split: +3.0 mIoU points" in text
    assert "0.430 ± 0.010" in text
    assert "95 %: +0.005 to +0.055" in text
    # All that is known of intervals, and the rank test's p, stand in the table of confirmed jobs.
    gain = "+0.030 +0.005 +0.055 not settled +0.020 +0.040 0.250"
    # The test split is scored once, so that it has no gain of another epoch.
    assert f"trial 0007 resnet18 resnet34 test 3 {gain} – 0.430 0.010 0.400 0.000" in text
    assert f"trial 0007 resnet18 resnet34 validation 3 {gain} +0.030 0.430" in text
    assert "The student of trial 4 (resnet18) has 11.2 M parameters." in text
    assert "One seed only" not in text
    assert "has never been scored" not in text


def test_many_trials_stay_small(story: Any) -> None:
    """Every figure and table has an upper bound, whatever the number of trials."""
    story.sweep(trials=3000, epochs=10).session()
    for number in range(3000):
        weight = 10 ** (number % 97 / 24 - 2)
        story.trial(number, student=f"net{number % 40}", params={"distill.pixel_kl.weight": weight})
        story.run(
            number, [0.2 + (number * 37 % 1000) / 5000], "asha", classes={"student": [0.5] * 3}
        )
    page = render_page(results_of(story.events))
    assert len(page) < 8_000_000
    assert "2800 more rows are in trials.csv." in page
