"use strict";
(() => {
  const NARROW = 560; // pixels of a figure below which its margins shrink

  // -- figures ---------------------------------------------------------------------------------

  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  // Figures name colours as CSS variables; plotly.js wants the colours themselves. Only values
  // below a key that speaks of colour are looked at, so that no text is taken for one.
  function resolve(node, style, isColor) {
    if (typeof node === "string") {
      const match = isColor && /^var\((--[a-z0-9-]+)\)$/.exec(node);
      return match ? style.getPropertyValue(match[1]).trim() : node;
    }
    if (Array.isArray(node)) return node.map((item) => resolve(item, style, isColor));
    if (node === null || typeof node !== "object") return node;
    const result = {};
    for (const [key, value] of Object.entries(node)) {
      result[key] = resolve(value, style, isColor || /color/i.test(key));
    }
    return result;
  }

  function themed(figure, style, narrow) {
    const color = (name) => style.getPropertyValue(name).trim();
    const layout = resolve(figure.layout, style, false);
    const axis = {
      gridcolor: color("--grid"), zerolinecolor: color("--faint"), linecolor: color("--faint"),
      tickcolor: color("--faint"), zeroline: false, automargin: true, fixedrange: narrow,
    };
    for (const name of ["xaxis", "yaxis"]) {
      const own = layout[name] || {};
      layout[name] = { ...axis, ...own };
      if (own.title) layout[name].title = { standoff: 8, ...own.title };
    }
    const legend = { font: { size: 12 }, ...(layout.legend || {}) };
    const margin = { l: narrow ? 44 : 56, r: narrow ? 10 : 20, t: 28, b: 46, ...(layout.margin || {}) };
    return {
      data: resolve(figure.data, style, false),
      layout: {
        ...layout, legend, margin,
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 12.5, color: color("--ink") },
        hoverlabel: { bgcolor: color("--raised"), bordercolor: color("--faint"), font: { color: color("--ink") }, align: "left", namelength: -1 },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: color("--faint"), activecolor: color("--accent") },
        hovermode: "closest", dragmode: narrow ? false : "zoom",
      },
    };
  }

  const config = {
    responsive: true, displaylogo: false,
    showSendToCloud: false, plotlyServerURL: "", // nothing of this page is ever sent anywhere
    modeBarButtonsToRemove: [
      "sendChartToCloud", "lasso2d", "select2d", "autoScale2d", "zoomIn2d", "zoomOut2d",
    ],
  };

  function say(place, text) {
    place.style.height = "auto";
    place.replaceChildren(Object.assign(document.createElement("p"), { className: "error", textContent: text }));
  }

  const canvas = document.createElement("canvas");
  const hasWebGL = Boolean(canvas.getContext("webgl"));

  function draw(place) {
    const figure = figures[place.dataset.figure];
    if (figure.data.some((trace) => trace.type === "parcoords") && !hasWebGL) {
      say(place, "This figure needs WebGL, which this browser does not offer; its numbers are in the CSV.");
      return Promise.resolve();
    }
    const style = getComputedStyle(document.documentElement);
    const narrow = place.clientWidth < NARROW;
    const { data, layout } = themed(figure, style, narrow);
    const settings = { ...config, displayModeBar: narrow ? false : "hover" };
    return Plotly.react(place, data, layout, settings).then(() => {
      place.dataset.drawn = "yes";
    }).catch((error) => {
      say(place, `This figure could not be drawn (${error.message || error}); its numbers are in the CSV.`);
    });
  }

  // One figure after another, what is on screen first: the page answers at once however many.
  const waiting = [...document.querySelectorAll(".plot")];
  const later = window.requestIdleCallback || ((work) => setTimeout(work, 1));
  function drawNext() {
    if (!waiting.length) {
      document.documentElement.dataset.drawn = "all";
      return;
    }
    const seen = waiting.findIndex((place) => {
      const box = place.getBoundingClientRect();
      return box.bottom > 0 && box.top < window.innerHeight;
    });
    const [place] = waiting.splice(Math.max(seen, 0), 1);
    draw(place).then(() => later(drawNext));
  }
  later(drawNext);

  dark.addEventListener("change", () => {
    for (const place of document.querySelectorAll(".plot[data-drawn]")) draw(place);
  });

  // -- tables ----------------------------------------------------------------------------------

  const collator = new Intl.Collator(undefined, { numeric: true });

  function compare(a, b, isNumber, sign) {
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return sign * (isNumber ? a - b : collator.compare(a, b));
  }

  function sortBy(table, header) {
    const headers = [...header.parentElement.children];
    const column = headers.indexOf(header);
    const isNumber = header.classList.contains("number");
    const before = header.getAttribute("aria-sort");
    // Numbers are mostly wanted largest first, names from A to Z.
    const first = isNumber ? "descending" : "ascending";
    const other = isNumber ? "ascending" : "descending";
    const order = before === first ? other : first;
    for (const each of headers) each.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const key = (row) => row.cells[column].dataset.order;
    const rows = [...body.rows].map((row) => [key(row), row]);
    rows.sort((a, b) => compare(a[0], b[0], isNumber, sign));
    body.append(...rows.map(([, row]) => row));
  }

  for (const block of document.querySelectorAll("[data-table]")) {
    const table = block.querySelector("table");
    for (const header of table.tHead.rows[0].cells) {
      header.querySelector("button").addEventListener("click", () => sortBy(table, header));
    }
    const input = block.querySelector("input");
    if (!input) continue;
    const output = block.querySelector("output");
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        const fits = words.every((word) => text.includes(word));
        row.hidden = !fits;
        count += fits;
      }
      output.textContent = words.length ? `${count} of ${table.tBodies[0].rows.length}` : "";
    });
  }
})();
