"use strict";

const all = JSON.parse(document.getElementById("pairs").textContent);
const selects = { a: document.getElementById("run-a"), b: document.getElementById("run-b") };
const minus = (text) => text.replace("-", "−");
const others = document.getElementById("others");
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// Elements without innerHTML: names of runs and words of records are text, whatever they hold.
function make(name, attributes = {}, ...children) {
  const drawn = ["svg", "line", "circle", "path", "text", "g", "title"].includes(name);
  const element = drawn ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// The difference of two runs in one metric: { mean, low, high, basis, seeds: [[seed, difference], ...] }.
function difference(metric, a, b) {
  const [ours, theirs] = [metric.runs[a], metric.runs[b]];
  if (!ours || !theirs) return null;
  const seeds = Object.keys(ours[0]).filter((seed) => seed in theirs[0]).map((seed) => [seed, ours[0][seed] - theirs[0][seed]]);
  if (seeds.length > 1) {
    const values = seeds.map(([, value]) => value);
    const centre = mean(values);
    const pooled = metric.half !== null && metric.pooled.includes(a) && metric.pooled.includes(b);
    const squares = values.reduce((sum, value) => sum + (value - centre) ** 2, 0);
    const own = all.students[values.length - 1] * Math.sqrt(squares / (values.length - 1));
    const half = (pooled ? metric.half : own) / Math.sqrt(values.length);
    const known = half > 1e-12 * Math.abs(centre);
    return { mean: centre, low: known ? centre - half : null, high: known ? centre + half : null, basis: known ? (pooled ? "pooled" : "own") : "all equal", seeds };
  }
  const [x, y] = [mean(Object.values(ours[0])), mean(Object.values(theirs[0]))];
  const found = { mean: x - y, low: null, high: null, basis: "no interval", seeds };
  if (!ours[1] || !theirs[1]) return found;
  found.low = x - y - Math.hypot(x - ours[1][0], theirs[1][1] - y);
  found.high = x - y + Math.hypot(ours[1][1] - x, y - theirs[1][0]);
  found.basis = "within cells";
  return found;
}

// `ahead` and `behind` are A's, by more than the interval; `level` within it, `unsure` where there is none.
function verdict(metric, d) {
  if (d.low === null) return "unsure";
  const sign = metric.higher ? 1 : -1;
  return d.low > 0 || d.high < 0 ? (sign * d.mean > 0 ? "ahead" : "behind") : "level";
}

function forest(d, reach) {
  const x = (value) => 4 + ((value + reach) / (2 * reach)) * 92;
  const svg = make("svg", { class: "forest", viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(make("line", { class: "zero", x1: 50, x2: 50, y1: 0, y2: 12 }));
  svg.append(make("line", { x1: x(d.low), x2: x(d.high), y1: 6, y2: 6 }));
  svg.append(make("circle", { cx: x(d.mean), cy: 6, r: 2.5 }));
  return svg;
}

function showResults(a, b) {
  const wanted = all.metrics.filter((metric) => metric.headline || others.checked);
  const found = wanted.map((metric) => [metric, difference(metric, a, b)]).filter(([, d]) => d);
  const reaches = {}; // rows of one unit share a scale; plain numbers have nothing in common
  const scale = (metric) => metric.unit || `${metric.stage} ${metric.metric}`;
  for (const [metric, d] of found) {
    const reach = Math.max(Math.abs(d.mean), Math.abs(d.low ?? 0), Math.abs(d.high ?? 0));
    reaches[scale(metric)] = Math.max(reaches[scale(metric)] ?? 0, reach);
  }
  const count = { ahead: 0, behind: 0, level: 0, unsure: 0 };
  const rows = found.map(([metric, d]) => {
    const text = (value, more = 0) => minus(value.toFixed(metric.digits + more));
    const average = (run) => text(mean(Object.values(metric.runs[run][0])));
    const said = verdict(metric, d);
    if (metric.headline) count[said] += 1;
    const number = (shown, tone = "") => make("td", { class: `num ${tone}` }, shown);
    const interval = d.low === null ? d.basis : `[${text(d.low)},\u00a0${text(d.high)}]`;
    const unit = metric.unit ? `, ${metric.unit}` : "";
    return make(
      "tr", { class: metric.headline ? "" : "minor", "data-verdict": said },
      make("th", { scope: "row" }, metric.task, make("small", {}, `${metric.metric}${unit}${metric.higher ? "" : " (lower is better)"}`)),
      number(`${d.mean > 0 ? "+" : ""}${text(d.mean)}`, { ahead: "within best", behind: "outside best" }[said] ?? ""),
      make("td", {}, ...(d.low === null ? [] : [forest(d, reaches[scale(metric)])]), ` ${interval}`, make("small", {}, d.low === null ? "" : `${said}, ${d.basis}`)),
      number(average(a)), number(average(b)),
      make("td", { class: "seeds" }, d.seeds.map(([seed, value]) => `${seed}: ${text(value, 1)}`).join(", ") || "none shared"),
    );
  });
  document.querySelector("#differences tbody").replaceChildren(...rows);
  const total = count.ahead + count.behind + count.level + count.unsure;
  document.getElementById("verdict").textContent = total
    ? `In the ${total} headline metric${total > 1 ? "s" : ""} that both have, ${a} is ahead of ${b} by more than the interval in ${count.ahead}, behind in ${count.behind}, level in ${count.level}` +
      (count.unsure ? `; ${count.unsure} without an interval.` : ".")
    : `${a} and ${b} have no task in common.`;
}

function showSettings(a, b) {
  const value = (row, run) => (run in row.of ? row.values[row.of[run]] : "–");
  const rows = all.settings.filter((row) => row.stage === "Cost" || (value(row, a) !== value(row, b) && (a in row.of || b in row.of)));
  document.querySelector("#settings-table tbody").replaceChildren(
    ...rows.map((row) =>
      make("tr", {}, make("th", { scope: "row" }, row.stage), make("td", {}, make("code", {}, row.key)), make("td", {}, value(row, a)), make("td", {}, value(row, b))),
    ),
  );
}

// A few round numbers of a range, so that axes are read without thinking.
function ticks(low, high) {
  const rough = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step / 1e6; t += step) found.push(Number(t.toPrecision(6)));
  return found;
}

function panel(curves, tones, caption) {
  const [width, height, left, bottom] = [420, 230, 48, 34];
  const points = curves.flatMap((curve) => curve.pieces.flatMap(([xs, ys]) => xs.map((x, i) => [x, ys[i]])));
  const ends = (index) => [Math.min(...points.map((p) => p[index])), Math.max(...points.map((p) => p[index]))];
  const [[x0, x1], [y0, y1]] = [ends(0), ends(1)];
  const x = (value) => left + ((value - x0) / (x1 - x0 || 1)) * (width - left - 12);
  const y = (value) => height - bottom - ((value - y0) / (y1 - y0 || 1)) * (height - bottom - 10);
  const svg = make("svg", { class: "drawn", viewBox: `0 0 ${width} ${height}`, role: "img" }, make("title", {}, caption));
  for (const t of ticks(y0, y1)) {
    svg.append(make("line", { class: "grid", x1: left, x2: width - 8, y1: y(t), y2: y(t) }));
    svg.append(make("text", { class: "end", x: left - 5, y: y(t) + 4 }, minus(`${t}`)));
  }
  for (const t of ticks(x0, x1)) svg.append(make("text", { class: "middle", x: x(t), y: height - bottom + 16 }, t.toLocaleString("en")));
  svg.append(make("text", { class: "middle", x: (left + width) / 2, y: height - 3 }, "step"));
  for (const curve of curves)
    for (const [xs, ys] of curve.pieces) {
      const path = xs.map((value, i) => `${i ? "L" : "M"}${x(value).toFixed(1)} ${y(ys[i]).toFixed(1)}`).join("");
      svg.append(make("path", { class: `curve ${tones[curve.run]}`, d: path }));
    }
  return make("figure", {}, svg, make("figcaption", {}, caption));
}

const absent = (run) => make("p", { class: "missing" }, `${run}: none`);

function showCurves(a, b) {
  const panels = [];
  for (const stage of new Set(all.curves.map((curve) => curve.stage))) {
    const [ours, theirs] = [a, b].map((run) => all.curves.filter((curve) => curve.stage === stage && curve.run === run));
    const title = (ours[0] ?? theirs[0])?.title;
    if (!title) continue;
    if (stage === "pretrain") {
      panels.push(make("h3", {}, title));
      panels.push(ours.length ? panel(ours, { [a]: "a" }, `A: ${a}, ${title.toLowerCase()}`) : absent(a));
      panels.push(theirs.length ? panel(theirs, { [b]: "b" }, `B: ${b}, ${title.toLowerCase()}`) : absent(b));
    } else {
      const whose = ours.length && theirs.length ? `A: ${a}, B (dashed): ${b}` : ours.length ? `A: ${a} only` : `B: ${b} only`;
      panels.push(panel([...ours, ...theirs], { [b]: "b", [a]: "a" }, `${title}; ${whose}`));
    }
  }
  document.getElementById("curve-panels").replaceChildren(...panels);
  document.getElementById("curves").hidden = panels.length === 0;
}

function showPictures(a, b) {
  const parts = [];
  for (const title of new Set(all.pictures.map((picture) => picture.title))) {
    const columns = [a, b].map((run) => all.pictures.filter((picture) => picture.title === title && picture.run === run));
    if (!columns[0].length && !columns[1].length) continue;
    const cells = [make("h3", {}, title)];
    for (let i = 0; i < Math.max(columns[0].length, columns[1].length); i++)
      [a, b].forEach((run, side) => {
        const one = columns[side][i];
        const [width, height] = one?.size ?? [];
        cells.push(
          one
            ? make("figure", {}, make("img", { src: one.source, width, height, loading: "lazy", alt: `${run}: ${one.caption}` }),
                make("figcaption", {}, make("b", { class: "ab"[side] }, run), `, seed ${one.seed}. ${one.caption}`))
            : absent(run),
        );
      });
    parts.push(make("div", { class: "pair" }, ...cells));
  }
  document.getElementById("picture-pairs").replaceChildren(...parts);
  document.getElementById("pictures").hidden = parts.length === 0;
}

// The address names the two, so that a comparison can be sent to somebody.
function show() {
  const [a, b] = [selects.a.value, selects.b.value];
  for (const part of [showResults, showSettings, showCurves, showPictures]) part(a, b);
  history.replaceState(null, "", `#${encodeURIComponent(a)},${encodeURIComponent(b)}`);
}

function choose() {
  const named = location.hash.slice(1).split(",").map(decodeURIComponent);
  const first = Object.values(all.tracks).find((runs) => runs.length > 1) ?? all.runs;
  const pair = [first[first.length - 1], first[0]];
  ["a", "b"].forEach((side, i) => (selects[side].value = all.runs.includes(named[i]) ? named[i] : pair[i]));
  show();
}

for (const select of Object.values(selects)) {
  const groups = Object.entries(all.tracks).map(([title, runs]) =>
    make("optgroup", { label: title }, ...runs.map((run) => make("option", { value: run }, run))),
  );
  const grouped = new Set(Object.values(all.tracks).flat());
  const rest = all.runs.filter((run) => !grouped.has(run)).map((run) => make("option", { value: run }, run));
  select.append(...groups, ...rest);
  select.addEventListener("change", show);
}
others.addEventListener("change", show);
document.getElementById("swap").addEventListener("click", () => {
  [selects.a.value, selects.b.value] = [selects.b.value, selects.a.value];
  show();
});
addEventListener("hashchange", choose);
choose();
