// Views, keys, and what all views share: the models in service, the day's figures, the news of the line.

import { askToken, follow, get } from "./ask.js";
import { drift } from "./drift.js";
import { live } from "./live.js";
import { by, html, midnight } from "./make.js";
import { toggleMap } from "./picture.js";
import { review } from "./review.js";
import { attempt } from "./try.js";

const VIEWS = { live, try: attempt, review, drift };
const NAMES = Object.keys(VIEWS);
const line = { summary: null, model: null, refresh, notice, alarm };
let view = null;
let later = null;

function notice(text) {
  by("notice").textContent = text ?? "";
  by("notice").hidden = !text;
}

const alarms = new Map();

function alarm(model, on) {
  alarms.set(model, on);
  by("drift-badge").hidden = ![...alarms.values()].some(Boolean);
}

/** An alarm shows on every view, not only to who looks for it. */
async function watchDrift() {
  for (const { name } of line.summary?.models ?? []) {
    const found = await get("/v1/drift", { model: name }).catch(() => null);
    if (found) alarm(name, Boolean(found.values.alarm || found.rejects.alarm));
  }
}

async function refresh() {
  const summary = await get("/v1/summary", { since: midnight() });
  line.summary = summary;
  const names = summary.models.map((m) => m.name);
  if (!names.includes(line.model)) line.model = names[0] ?? null;
  const options = names.map((name) => html("option", { value: name, selected: name === line.model }, name));
  const shown = [...by("model").options].map((o) => o.value);
  if (shown.join("\n") !== names.join("\n")) by("model").replaceChildren(...options);
  by("model-choice").hidden = names.length < 2;
  by("open-count").hidden = summary.open === 0;
  by("open-count").textContent = summary.open > 999 ? "999+" : summary.open;
  by("open-count").title = "rejected parts that nobody has looked at";
  live.figures(summary);
}

/** Soon, but once for many parts. */
function refreshSoon() {
  later ??= setTimeout(async () => {
    later = null;
    await refresh().catch(() => {});
  }, 1000);
}

async function go() {
  const name = NAMES.includes(location.hash.slice(1)) ? location.hash.slice(1) : "live";
  if (view && view !== VIEWS[name]) view.leave?.();
  view = VIEWS[name];
  for (const other of NAMES) by(other).hidden = other !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `pbas: ${name}`;
  notice(null);
  await entered();
}

async function entered() {
  try {
    await view.enter?.(line);
  } catch (error) {
    notice(error.message);
  }
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.closest?.("input:not([type=range]), select, textarea");
  if (typing) return;
  if (event.target.type === "range" && /^(Arrow|Home|End|Page)/.test(event.key)) return;
  // A button or a link takes its own keys.
  if ((event.key === " " || event.key === "Enter") && event.target.closest?.("button, a, summary, label")) return;
  const number = Number(event.key);
  if (number >= 1 && number <= NAMES.length) location.hash = NAMES[number - 1];
  else if (event.key === "?") by("help").showModal();
  else if (event.key.toLowerCase() === "m") toggleMap();
  else if (!view?.key?.(event)) return;
  event.preventDefault();
}

window.addEventListener("hashchange", () => {
  if (location.hash === "#main") return;
  void go();
});
window.addEventListener("keydown", key);
by("help-button").addEventListener("click", () => by("help").showModal());
by("enter-token").addEventListener("click", async () => {
  if (await askToken("A token of the role `admin` may mark parts and change the threshold.")) location.reload();
});
by("model").addEventListener("change", (event) => {
  line.model = event.target.value;
  void entered();
});

live.set(line);
try {
  await refresh();
} catch (error) {
  notice(error.message);
}
await go();
// Later: the line comes first when the page opens.
setTimeout(watchDrift, 2000);
setInterval(watchDrift, 60_000);
void follow({
  part(part) {
    live.part(part);
    refreshSoon();
  },
  missed() {
    live.reload().catch((error) => notice(error.message));
    refreshSoon();
  },
  state(state) {
    by("connection").textContent = state === "live" ? "connected" : "no connection";
    by("connection").dataset.state = state;
  },
});
