// The last parts as they come.

import { get, loadPicture } from "./ask.js";
import { by, html, kind, number, percent, showVerdict, svg, when, whole, why, WORDS } from "./make.js";
import { ofPart, Picture } from "./picture.js";

const KEPT = 120;
const STRIP = 24;
// A person sees no more pictures a second; the chart and the strip still have every part.
const LEAST_MS = 200;
const picture = new Picture(by("live-picture"));
let parts = [];
let held = null;
let line = null;
let due = null;
let last = 0;
let visible = false;

const text = (part) => `${part.name}, ${WORDS[kind(part)].long}`;
const shownPart = () => held ?? parts.at(-1);

function soon() {
  due ??= setTimeout(() => {
    due = null;
    last = performance.now();
    draw();
  }, Math.max(0, LEAST_MS - (performance.now() - last)));
}

function draw() {
  if (!visible) return;
  const part = shownPart();
  by("held").hidden = held === null;
  if (part) {
    showVerdict(by("verdict"), kind(part));
    by("verdict-why").replaceChildren(
      html("span", { class: "reason" }, why(part)),
      html("span", { class: "name" }, part.name),
      html("span", {}, `part ${part.id}, ${when(part.time)}, model ${part.model}`));
    if (part.error) picture.clear("This picture could not be judged");
    else void picture.show(ofPart(part, text(part)));
    by("spoken").textContent = held === null && part.verdict === "anomalous" ? `part ${part.id} ${WORDS.anomalous.long}` : "";
  }
  chart();
  strip();
}

function strip() {
  const list = by("strip");
  const wanted = parts.slice(-STRIP).reverse();
  const there = new Map([...list.children].map((item) => [item.dataset.id, item]));
  const items = wanted.map((part) => {
    const item = there.get(String(part.id)) ?? tile(part);
    item.firstChild.setAttribute("aria-pressed", String(part.id === held?.id));
    return item;
  });
  const focused = document.activeElement?.closest("#strip li")?.dataset.id;
  list.replaceChildren(...items);
  if (focused) items.find((item) => item.dataset.id === focused)?.firstChild.focus({ preventScroll: true });
}

function tile(part) {
  const image = html("img", { alt: "", width: 96, height: 96 });
  const what = kind(part);
  const button = html("button", { type: "button", class: "tile", "data-verdict": what, "aria-pressed": "false", onclick: () => hold(part) },
    image, html("span", { class: "tag" }, `${WORDS[what].sign} ${WORDS[what].word}`), html("span", { class: "unseen" }, `${part.name}, part ${part.id}`));
  if (!part.error) void loadPicture(image, `/v1/parts/${part.id}/thumbnail`);
  return html("li", { "data-id": part.id }, button);
}

function hold(part) {
  held = part && part.id !== parts.at(-1)?.id ? part : null;
  draw();
}

function step(by) {
  const at = parts.findIndex((p) => p.id === shownPart()?.id);
  const next = parts[Math.min(Math.max(at + by, 0), parts.length - 1)];
  if (next) hold(next);
}

function chart() {
  const box = by("live-chart");
  const judged = parts.filter((p) => !p.error);
  const [width, height] = [Math.max(box.clientWidth, 200), 190];
  const [left, right, top, bottom] = [44, 12, 12, 22];
  if (!judged.length) {
    box.replaceChildren(html("p", { class: "fine" }, "The chart begins with the first part."));
    return;
  }
  const threshold = judged.at(-1).threshold;
  // Far above is far above: what lies beyond is drawn at the upper edge, as a triangle.
  const most = Math.max(threshold * 3, Number.EPSILON);
  const least = Math.min(0, ...judged.map((p) => p.image_score));
  const y = (v) => top + (1 - (Math.min(Math.max(v, least), most) - least) / (most - least)) * (height - top - bottom);
  const x = (i) => left + (KEPT - parts.length + i + 0.5) * ((width - left - right) / KEPT);
  const steps = parts.map((p, i) => (p.error ? null : `${x(i).toFixed(1)},${y(p.threshold).toFixed(1)}`)).filter(Boolean);
  const mark = (p, i) => {
    if (p.error) return svg("text", { class: "dot failed", x: x(i), y: height - bottom - 2, "text-anchor": "middle" }, "?");
    const [cx, cy] = [x(i), y(p.image_score)];
    const title = svg("title", {}, `part ${p.id}: ${why(p)}`);
    if (p.verdict === "normal") return svg("circle", { class: "dot normal", cx, cy, r: 3 }, title);
    const [a, b] = p.image_score > most ? [7, 5] : [5, 5];
    const path = p.image_score > most ? `M${cx - b},${cy + a}h${2 * b}l${-b},${-a - 3}z` : `M${cx},${cy - b}l${a},${b}l${-a},${b}l${-a},${-b}z`;
    return svg("path", { class: "dot anomalous", d: path }, title);
  };
  const ticks = [0, threshold, threshold * 2, most].map((v) => svg("g", {},
    svg("line", { class: "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }),
    svg("text", { class: "tick", x: left - 6, y: y(v) + 4, "text-anchor": "end" }, number(v, 1))));
  const rejected = judged.filter((p) => p.verdict === "anomalous").length;
  const ringed = held ? parts.findIndex((p) => p.id === held.id) : parts.length - 1;
  const ring = ringed >= 0 && !parts[ringed].error
    ? svg("circle", { class: "ring", cx: x(ringed), cy: y(parts[ringed].image_score), r: 9 }) : null;
  box.replaceChildren(svg("svg", {
    width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `Scores of the last ${judged.length} parts; ${rejected} above the threshold of ${number(threshold)}`,
  }, ticks, svg("polyline", { class: "threshold", points: steps.join(" ") }), parts.map(mark), ring,
  svg("text", { class: "tick", x: width - right, y: height - 6, "text-anchor": "end" }, "now"),
  svg("text", { class: "tick", x: left, y: height - 6 }, `${KEPT} parts ago`)));
}

new ResizeObserver(() => { if (visible) chart(); }).observe(by("live-chart"));
by("follow").addEventListener("click", () => hold(null));

export const live = {
  set(shared) {
    line = shared;
  },

  enter() {
    visible = true;
    draw();
  },

  leave() {
    visible = false;
  },

  /** The list from the record, in place of what is here. */
  async reload() {
    const found = await get("/v1/parts", { limit: KEPT });
    parts = found.reverse();
    soon();
  },

  part(part) {
    if (parts.some((p) => p.id === part.id)) return;
    // Two that were recorded at about the same time may be told of in the other order.
    parts = [...parts, part].sort((a, b) => a.id - b.id).slice(-KEPT);
    soon();
  },

  figures(summary) {
    const { today } = summary;
    by("today-parts").textContent = whole(today.parts);
    by("today-rejected").textContent = whole(today.anomalous);
    by("today-rate").textContent = today.reject_rate ? percent(today.reject_rate.share) : "-";
    by("today-failed").textContent = whole(today.failed);
    if (summary.in_memory) by("chart-title").textContent = "Score against threshold, last parts (kept in memory: the record ends with the server)";
  },

  key(event) {
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "Escape") hold(null);
    else return false;
    return true;
  },
};
