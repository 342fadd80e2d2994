// Elements out of plain data, and numbers and times in words. Text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

export const html = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
export const by = (id) => document.getElementById(id);

export function number(value, digits = 2) {
  if (!Number.isFinite(value)) return "-";
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(digits);
}

export function percent(share) {
  if (!Number.isFinite(share)) return "-";
  const value = share * 100;
  if (value === 0) return "0\u00a0%";
  if (value < 0.01) return `${value.toPrecision(1)}\u00a0%`;
  return `${value < 1 ? value.toFixed(2) : value < 10 ? value.toFixed(1) : value.toFixed(0)}\u00a0%`;
}

export const counted = (n, one, many = `${one}s`) => `${whole(n)} ${n === 1 ? one : many}`;
export const whole = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");

const two = (n) => String(n).padStart(2, "0");
export const day = (date) => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
export const hour = (date) => `${two(date.getHours())}:${two(date.getMinutes())}`;
export const clock = (date) => `${hour(date)}:${two(date.getSeconds())}`;
export function when(time) {
  const date = new Date(time);
  return day(date) === day(new Date()) ? clock(date) : `${day(date)} ${clock(date)}`;
}

/** Seconds by which this clock is ahead of Greenwich. */
export const offset = () => -new Date().getTimezoneOffset() * 60;

/** The beginning of today here, as the server wants it. */
export function midnight() {
  const date = new Date();
  date.setHours(0, 0, 0, 0);
  return date.toISOString();
}

export const WORDS = {
  normal: { sign: "✓", word: "Good", long: "good" },
  anomalous: { sign: "✕", word: "Reject", long: "rejected" },
  failed: { sign: "?", word: "Not read", long: "could not be judged" },
};
export const kind = (part) => (part.error ? "failed" : part.verdict);

export function why(part) {
  if (part.error) return part.error;
  const sign = part.verdict === "anomalous" ? ">" : "≤";
  return `score ${number(part.image_score)} ${sign} threshold ${number(part.threshold)}`;
}

/** A table of rows; the first is the head. */
export function table(caption, head, rows) {
  return html("table", {},
    html("caption", { class: "unseen" }, caption),
    html("thead", {}, html("tr", {}, head.map((cell) => html("th", { scope: "col" }, cell)))),
    html("tbody", {}, rows.map((row) => html("tr", {}, row.map((cell) => html("td", {}, cell))))));
}

/** The verdict's big word. */
export function showVerdict(box, what, text) {
  const { sign, word } = WORDS[what] ?? { sign: "", word: text ?? "" };
  box.dataset.verdict = what;
  box.querySelector(".sign").textContent = sign;
  box.querySelector(".word > :last-child").textContent = word;
}
