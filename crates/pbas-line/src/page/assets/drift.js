// Has the line moved since the model was calibrated?

import { get, loadPicture } from "./ask.js";
import { by, counted, day, hour, html, number, offset, percent, svg, table, when, whole } from "./make.js";

const NAMES = ["10 %", "median", "90 %", "99 %"];
let line = null;
let scale = "hour";
let found = null;
let timer = null;

function watch(title, state, higher, lower) {
  const { alarm } = state;
  const full = Math.log(state.alarm_at);
  // What was won at the best, on a scale of powers: 1 at the left end, alarm at the right one.
  const at = (capital) => Math.min(Math.max(Math.log(capital) / full, 0), 1);
  const waiting = state.seen <= state.before;
  const word = alarm ? "Alarm" : waiting ? "Too early" : "No alarm";
  return html("div", { class: "card watch", "data-alarm": alarm ? "yes" : "no" },
    html("h2", {}, title),
    html("p", { class: "state" }, `${alarm ? "⚠ " : waiting ? "" : "✓ "}${word}`),
    html("p", {}, alarm
      ? `${alarm.direction === "higher" ? higher : lower}; noticed at part ${alarm.part}, ${when(alarm.second * 1000)}.`
      : waiting ? `${state.seen} of the first ${state.before} parts have come; bets begin after them.`
        : `Bets against "nothing has changed" stand at ${number(state.capital)}; alarm at ${whole(state.alarm_at)}.`),
    html("div", { class: "meter", role: "img", "aria-label": `highest ${number(state.highest)}, alarm at ${whole(state.alarm_at)}` }, meter(at(state.capital), at(state.highest))),
    html("p", { class: "fine" }, `${counted(state.seen, "value")} seen, highest stand ${state.highest > 1e6 ? "above a million" : number(state.highest, 1)}.`));
}

function meter(now, highest) {
  return svg("svg", { width: "100%", height: 14, preserveAspectRatio: "none", viewBox: "0 0 100 10" },
    svg("rect", { class: "meter-back", width: 100, height: 10 }), svg("rect", { class: "meter-now", width: now * 100, height: 10 }),
    svg("rect", { class: "meter-high", x: Math.min(highest * 100, 99), width: 1, height: 10 }));
}

const from = (s) => new Date(s.from * 1000);
const label = (s) => (scale === "day" ? day(from(s)).slice(5) : hour(from(s)));

function frame(box, height, values, count) {
  const width = Math.max(box.clientWidth, 200);
  const [left, right, top, bottom] = [44, 14, 10, 24];
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const room = most - least || 1;
  const [low, high] = [least - room * 0.05, most + room * 0.05];
  const x = (i) => left + (i + 0.5) * ((width - left - right) / Math.max(count, 1));
  const y = (v) => top + (1 - (v - low) / (high - low)) * (height - top - bottom);
  return { width, height, left, right, top, bottom, least, most, x, y };
}

function times(f, stretches) {
  const most = Math.max(Math.floor((f.width - f.left - f.right) / 60), 1);
  const every = Math.ceil(stretches.length / most);
  return stretches.map((s, i) => (i % every ? null : svg("text", { class: "tick", x: f.x(i), y: f.height - 7, "text-anchor": "middle" }, label(s))));
}

function quantiles() {
  const box = by("quantile-chart");
  const { stretches, reference } = found;
  const some = stretches.filter((s) => s.quantiles.length);
  if (!some.length || !reference.quantiles.length) {
    box.replaceChildren(html("p", { class: "fine" }, "No good verdict of this model file is on the record yet."));
    return;
  }
  const f = frame(box, 240, [...some.flatMap((s) => s.quantiles), ...reference.quantiles], stretches.length);
  const lines = NAMES.map((name, q) => {
    const points = stretches.map((s, i) => (s.quantiles.length ? [f.x(i), f.y(s.quantiles[q])] : null)).filter(Boolean);
    return svg("g", { class: `q q${q}` },
      svg("line", { class: "reference", x1: f.left, x2: f.width - f.right, y1: f.y(reference.quantiles[q]), y2: f.y(reference.quantiles[q]) }),
      svg("polyline", { points: points.map((p) => p.map((v) => v.toFixed(1)).join(",")).join(" ") }),
      points.map(([cx, cy]) => svg("circle", { cx, cy, r: 2.5 })));
  });
  const ticks = [0, 1, 2, 3, 4].map((i) => f.least + ((f.most - f.least) * i) / 4);
  box.replaceChildren(svg("svg", {
    width: f.width, height: f.height, viewBox: `0 0 ${f.width} ${f.height}`, role: "img",
    "aria-label": `Scores of good verdicts over ${counted(stretches.length, scale)}; median ${number(some.at(-1).quantiles[1])} at last, ${number(reference.quantiles[1])} in the reference`,
  }, ticks.map((v) => svg("g", {}, svg("line", { class: "grid", x1: f.left, x2: f.width - f.right, y1: f.y(v), y2: f.y(v) }),
    svg("text", { class: "tick", x: f.left - 6, y: f.y(v) + 4, "text-anchor": "end" }, number(v, 2)))), lines, times(f, stretches)));
}

function rejects() {
  const box = by("reject-chart");
  const { stretches } = found;
  const shares = stretches.map((s) => s.rejected / s.parts);
  if (!shares.length) {
    box.replaceChildren();
    return;
  }
  const f = frame(box, 130, [0, Math.max(0.01, ...shares)], stretches.length);
  const wide = Math.max(((f.width - f.left - f.right) / stretches.length) * 0.7, 1);
  box.replaceChildren(svg("svg", {
    width: f.width, height: f.height, viewBox: `0 0 ${f.width} ${f.height}`, role: "img",
    "aria-label": `Share of rejected parts over time, ${percent(shares.at(-1))} at last`,
  }, [0, f.most].map((v) => svg("g", {}, svg("line", { class: "grid", x1: f.left, x2: f.width - f.right, y1: f.y(v), y2: f.y(v) }),
    svg("text", { class: "tick", x: f.left - 6, y: f.y(v) + 4, "text-anchor": "end" }, percent(v)))),
  shares.map((s, i) => svg("rect", { class: "bar-rejected", x: f.x(i) - wide / 2, width: wide, y: f.y(s), height: f.y(0) - f.y(s) },
    svg("title", {}, `${label(stretches[i])}: ${stretches[i].rejected} of ${stretches[i].parts}`))), times(f, stretches)));
}

function moved() {
  by("moved-text").textContent = found.moved.length
    ? `Of the last ${whole(found.recent)} accepted parts those whose score lies farthest from the reference, in robust deviations from its median.`
    : "No accepted part of this model file is on the record yet.";
  by("moved").replaceChildren(...found.moved.map((m) => {
    const image = html("img", { alt: `part ${m.id}`, width: 160, height: 160 });
    void loadPicture(image, `/v1/parts/${m.id}/thumbnail`);
    return html("li", {}, image, html("span", {}, `part ${m.id}`), html("strong", {}, `${m.deviations > 0 ? "+" : "−"}${number(Math.abs(m.deviations), 1)} deviations`));
  }));
}

function draw() {
  if (!found) return;
  quantiles();
  rejects();
}

async function load() {
  found = await get("/v1/drift", { model: line.model, by: scale, offset: offset() });
  const { reference } = found;
  line.alarm(line.model, Boolean(found.values.alarm || found.rejects.alarm));
  by("watches").replaceChildren(
    watch("Scores of accepted parts", found.values, "Scores are higher than before", "Scores are lower than before"),
    watch("Share of rejected parts", found.rejects, "More parts are rejected than before", "Fewer parts are rejected than before"));
  by("reference").textContent = reference.calibration
    ? `Dashed: the ${counted(reference.parts, "good part")} of the last recalibration that the model accepts.`
    : `Dashed: the first ${counted(reference.parts, "accepted part")} of this model file on the record, as its training left no sample of its own that could be compared.`;
  by("quantile-legend").replaceChildren(...NAMES.map((name, q) => html("span", { class: `key q${q}` }, name)));
  by("quantile-table").replaceChildren(table("Scores of good verdicts over time", ["From", "Parts", "Rejected", ...NAMES],
    [["reference", String(reference.parts), "", ...reference.quantiles.map((v) => number(v, 3))],
      ...found.stretches.toReversed().map((s) => [`${day(from(s))} ${hour(from(s))}`, String(s.parts), String(s.rejected), ...(s.quantiles.length ? s.quantiles.map((v) => number(v, 3)) : ["", "", "", ""])])]));
  by("rule").textContent = `Each new score is ranked among all before it. If nothing changes, these ranks are pure chance and no bet on them wins in the mean. A capital of 1 is bet; either watch gives alarm when its capital reaches ${whole(found.values.alarm_at)}. The chance that any of the two ever does so without a change is at most ${percent(found.alpha)} for each model file, however long it runs (Ville's inequality). An alarm stands until another model file is in service.`;
  draw();
  moved();
}

for (const [id, value] of [["by-hour", "hour"], ["by-day", "day"]]) {
  by(id).addEventListener("click", () => {
    scale = value;
    by("by-hour").setAttribute("aria-pressed", String(scale === "hour"));
    by("by-day").setAttribute("aria-pressed", String(scale === "day"));
    load().catch((error) => line.notice(error.message));
  });
}
new ResizeObserver(() => { if (!by("drift").hidden) draw(); }).observe(by("quantile-chart"));

export const drift = {
  async enter(shared) {
    line = shared;
    if (!line.model) throw new Error("There is no model in service.");
    await load();
    timer ??= setInterval(() => load().catch((error) => line.notice(error.message)), 30_000);
  },

  leave() {
    clearInterval(timer);
    timer = null;
  },
};
