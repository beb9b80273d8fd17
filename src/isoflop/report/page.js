"use strict";
// Draws the plots of a report from the data that stands in the page, and nothing from anywhere else.
(() => {
  const root = document.documentElement;
  const errors = [];
  addEventListener("error", (event) => { errors.push(String(event.message)); root.dataset.errors = JSON.stringify(errors); });
  const data = JSON.parse(document.getElementById("data").textContent);
  const LIGHT = ["#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f", "#9a3412", "#475569"];
  const DARK = ["#6ea8fe", "#fbbf24", "#34d399", "#f87171", "#b79bff", "#22d3ee", "#f472b6", "#a3e635", "#fb923c", "#94a3b8"];
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "star"];
  const FONT = "Inter, ui-sans-serif, system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";

  // Plotly reads a few HTML tags in its labels; names must not be able to write them.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const colour = (i) => (root.dataset.theme === "dark" ? DARK : LIGHT)[i % LIGHT.length];
  const faded = (hex, alpha) => `rgba(${[1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)).join(",")},${alpha})`;
  const percent = data.share ? ".0%" : ".4~g";
  const exact = data.share ? ".1%" : ".4~g";

  function layout(x, y) {
    const axis = { gridcolor: css("--rule"), linecolor: css("--faint"), zeroline: false, ticks: "outside", tickcolor: css("--rule"), automargin: true, fixedrange: false };
    const title = (text) => ({ text, font: { size: 13, color: css("--soft") }, standoff: 10 });
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: FONT, size: 12.5, color: css("--soft") },
      margin: { l: 58, r: 18, t: 26, b: 48 }, hovermode: "closest",
      hoverlabel: { bgcolor: css("--card"), bordercolor: css("--rule"), font: { family: FONT, size: 13, color: css("--ink") }, align: "left" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--faint"), activecolor: css("--ink") },
      legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, font: { size: 12.5 }, itemsizing: "constant", traceorder: "normal" },
      xaxis: { ...axis, ...x, title: title(x.title) }, yaxis: { ...axis, ...y, title: title(y.title) },
    };
  }

  const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d", "toggleSpikelines"] };
  const draw = (id, traces, shape) => Plotly.react(id, traces, shape, config);

  // The area between two lines over x, as one closed outline.
  const band = (x, low, high, hue, group) => ({
    x: [...x, ...[...x].reverse()], y: [...high, ...[...low].reverse()], fill: "toself", fillcolor: faded(hue, 0.13), mode: "lines",
    line: { width: 0 }, hoverinfo: "skip", showlegend: false, legendgroup: group,
  });

  function frontier(axis) {
    const shown = data.axes[axis];
    const traces = [];
    for (const c of shown.curves) {
      const hue = c.bound ? css("--faint") : colour(c.colour);
      const one = c.x.length === 1;
      if (!one) traces.push(band(c.x, c.low, c.high, hue, c.name));
      traces.push({
        x: c.x, y: c.y, name: plain(c.name), legendgroup: c.name, mode: c.bound ? "lines" : "lines+markers",
        line: { color: hue, width: c.bound ? 1.5 : 2, dash: c.bound ? "dot" : "solid" },
        marker: { color: hue, size: one ? 10 : 6, symbol: SYMBOLS[c.symbol % SYMBOLS.length] },
        error_y: one ? { type: "data", symmetric: false, array: [c.high[0] - c.y[0]], arrayminus: [c.y[0] - c.low[0]], color: faded(hue, 0.6), thickness: 1.5, width: 4 } : undefined,
        customdata: c.x.map((_, i) => [c.low[i], c.high[i], c.step[i] + 1]),
        hovertemplate: `<b>${plain(c.name)}</b><br>%{y:${exact}}  [%{customdata[0]:${exact}}, %{customdata[1]:${exact}}]<br>%{x:.4~s} ${plain(shown.words)} a problem<br>answer %{customdata[2]}<extra></extra>`,
      });
    }
    const last = Math.max(...shown.curves.flatMap((c) => c.x));
    const points = [...shown.points, { ...shown.points[shown.points.length - 1], x: last }];
    traces.push({
      x: points.map((p) => p.x), y: points.map((p) => p.y), name: "frontier", mode: "lines",
      line: { shape: "hv", color: css("--ink"), width: 1.6 }, hoverinfo: "skip",
    });
    const lines = Math.ceil(traces.filter((t) => t.showlegend !== false).length / 2);
    const shape = layout(
      { type: "log", title: `${shown.words} a problem`, exponentformat: "SI", dtick: "D2", tickformat: "~s" },
      { title: data.share ? "share solved" : "quality", tickformat: percent });
    shape.margin.b = 62 + 22 * lines;
    document.getElementById("frontier").style.height = `${400 + 22 * lines}px`;
    return draw("frontier", traces, shape);
  }

  function coverage() {
    const traces = [];
    for (const c of data.coverage) {
      const hue = colour(c.colour);
      traces.push(band(c.k, c.low, c.high, hue, c.model));
      traces.push({ x: c.k, y: c.y, name: plain(c.model), legendgroup: c.model, mode: "lines", line: { color: hue, width: 2.2 },
        hovertemplate: `<b>${plain(c.model)}</b><br>%{y:.1%} with %{x} samples<extra></extra>` });
      if (c.law) {
        traces.push({ ...band(c.law.k, c.law.low, c.law.high, hue, c.model), fillcolor: faded(hue, 0.07) });
        traces.push({ x: c.law.k, y: c.law.y, legendgroup: c.model, name: "law", showlegend: false, mode: "lines", line: { color: hue, width: 1.6, dash: "dash" },
          hovertemplate: `<b>${plain(c.model)}</b><br>%{y:.1%} with %{x:.0f} samples, by the law<extra></extra>` });
      }
    }
    return draw("coverage", traces, { ...layout({ type: "log", title: "samples k (dashed: the law)", dtick: "D2", tickformat: "~s" }, { title: "solved by at least one of k", tickformat: ".0%" }), showlegend: data.coverage.length > 1 });
  }

  function difficulty() {
    const many = data.difficulty[0].p.length > 150;
    const traces = [];
    for (const m of data.difficulty) {
      const hue = colour(m.colour);
      if (many && data.difficulty.length === 1) traces.push(band(m.rank, m.low, m.high, hue, m.model));
      traces.push({ x: m.rank, y: m.p, name: plain(m.model), mode: "markers", marker: { color: hue, size: many ? 4 : 6, symbol: SYMBOLS[m.colour % SYMBOLS.length] },
        error_y: many ? undefined : { type: "data", symmetric: false, array: m.p.map((p, j) => m.high[j] - p), arrayminus: m.p.map((p, j) => p - m.low[j]), color: faded(hue, 0.35), thickness: 1, width: 0 },
        customdata: m.key.map((key, j) => [plain(key), m.c[j], m.n[j], m.level[j] === null ? "" : `, level ${m.level[j]}`]),
        hovertemplate: "<b>%{customdata[0]}</b>%{customdata[3]}<br>right in %{customdata[1]} of %{customdata[2]} samples<extra></extra>" });
    }
    return draw("difficulty", traces, { ...layout({ title: "problems, the hardest first" }, { title: "success probability of one sample", tickformat: ".0%", range: [-0.03, 1.03] }), showlegend: data.difficulty.length > 1 });
  }

  function ledger(axis) {
    const shown = data.axes[axis];
    const rows = ["paid", "budgeted", "charged"];
    const traces = shown.roles.map((role, i) => ({
      type: "bar", orientation: "h", y: rows, x: rows.map((row) => role[row]), name: plain(role.role), marker: { color: colour(i) },
      texttemplate: "%{x:.3~s}", textposition: "inside", insidetextanchor: "middle", insidetextfont: { color: css("--paper") },
      hovertemplate: `<b>${plain(role.role)}</b>, %{y}: %{x:.4~s} ${plain(shown.words)}<extra></extra>`,
    }));
    return draw("ledger", traces, { ...layout({ title: `${shown.words}, the whole run`, exponentformat: "SI" }, { title: "" }), barmode: "stack", bargap: 0.35, showlegend: true, uniformtext: { mode: "hide", minsize: 10 } });
  }

  let axis = data.axis;
  function show(wanted) {
    if (data.axes[wanted] && data.axes[wanted].curves) axis = wanted;
    for (const part of document.querySelectorAll("[data-axis]")) part.hidden = part.dataset.axis !== axis;
    for (const button of document.querySelectorAll(".axes button")) button.setAttribute("aria-pressed", String(button.value === axis));
    root.dataset.axis = axis;
    if (axis) { frontier(axis); ledger(axis); }
  }
  function all() {
    show(axis);
    if (data.coverage.length) coverage();
    if (data.difficulty.length) difficulty();
  }
  function theme(name) { root.dataset.theme = name; all(); }

  for (const button of document.querySelectorAll(".axes button")) button.addEventListener("click", () => { location.hash = `axis=${button.value}`; });
  const wanted = () => (location.hash.match(/axis=(\w+)/) || [])[1];
  addEventListener("hashchange", () => show(wanted()));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => theme(dark.matches ? "dark" : "light"));
  document.getElementById("theme").addEventListener("click", () => theme(root.dataset.theme === "dark" ? "light" : "dark"));
  let before = "light";
  addEventListener("beforeprint", () => { before = root.dataset.theme; theme("light"); });
  addEventListener("afterprint", () => theme(before));

  if (wanted()) axis = data.axes[wanted()] && data.axes[wanted()].curves ? wanted() : axis;
  const asked = (location.hash.match(/theme=(\w+)/) || [])[1];
  theme(asked || (dark.matches ? "dark" : "light"));
  root.dataset.ready = "1";
})();
