// Rejected parts, one after the other, and what people said of them.

import { get, post } from "./ask.js";
import { enterCalibration } from "./calibrate.js";
import { by, counted, html, number, offset, percent, table, when } from "./make.js";
import { ofPart, Picture, regionList } from "./picture.js";

const AT_ONCE = 40;
const WORDS = { good: "good after all", defect: "a defect", skipped: "skipped" };
const PROPERTIES = { place: "Place of the highest region", size: "Size of the largest region", score: "Score", hour: "Time of day", model: "Model" };
const picture = new Picture(by("review-picture"));
let line = null;
let queue = [];
let done = [];
let busy = false;
let ends = false;
let later = null;
let left = null;

const current = () => queue[0];

const remaining = () => `${left ?? queue.length} to look at, ${done.length} done now`;

async function fetchMore() {
  const found = await get("/v1/parts", {
    verdict: "anomalous", review: "none", order: "oldest", limit: AT_ONCE, model: line.model, after: queue.at(-1)?.id ?? done.at(-1)?.part.id,
  });
  queue.push(...found.filter((p) => !queue.some((q) => q.id === p.id)));
  ends = found.length < AT_ONCE;
}

async function show() {
  const part = current();
  const may = line.summary?.may_change ?? false;
  by("may-not").hidden = may;
  for (const id of ["mark-good", "mark-defect", "mark-skip"]) by(id).disabled = !part || !may;
  by("mark-undo").disabled = done.length === 0 || !may;
  by("mark-undo").title = done.length ? `takes back that part ${done.at(-1).part.id} is ${WORDS[done.at(-1).review]}` : "";
  if (!part) {
    by("queue").textContent = "Every rejected part has been looked at.";
    by("review-part").replaceChildren();
    picture.clear("Nothing to review");
    return;
  }
  by("queue").textContent = remaining();
  by("review-part").replaceChildren(
    html("p", { class: "part-name" }, part.name),
    html("dl", { class: "facts" },
      html("div", {}, html("dt", {}, "Score"), html("dd", {}, `${number(part.image_score)} (threshold ${number(part.threshold)})`)),
      html("div", {}, html("dt", {}, "Judged"), html("dd", {}, when(part.time))),
      html("div", {}, html("dt", {}, "Part"), html("dd", {}, `${part.id}, model ${part.model}`))),
    regionList(part.regions));
  await picture.show(ofPart(part, `${part.name}, rejected`));
}

/** One change at a time; figures follow when the person pauses, so that keys are never waited for. */
async function change(part, review, then) {
  if (busy || !part || !line.summary?.may_change) return;
  busy = true;
  try {
    await post(`/v1/parts/${part.id}/review`, { review });
    then();
    if (queue.length < AT_ONCE / 4 && !ends) await fetchMore();
  } catch (error) {
    line.notice(error.message);
  } finally {
    busy = false;
  }
  clearTimeout(later);
  later = setTimeout(() => figures().catch((error) => line.notice(error.message)), 400);
  await show();
}

const mark = (review) => change(current(), review, () => {
  done.push({ part: queue.shift(), review });
  if (left !== null) left -= 1;
});
const undo = () => change(done.at(-1)?.part, null, () => {
  queue.unshift(done.pop().part);
  if (left !== null) left += 1;
});

const interval = (share) => (share ? `${percent(share.share)} (95\u00a0% interval ${percent(share.low)} to ${percent(share.high)})` : "not known yet");

async function figures() {
  const [found] = await Promise.all([get("/v1/review", { model: line.model, offset: offset() }), line.refresh()]);
  const a = found.agreement;
  const waiting = a.open + a.skipped;
  left = a.open;
  if (current()) by("queue").textContent = remaining();
  by("agreement").replaceChildren(
    table("Rejected parts by what people said", ["Rejected parts", "Number", "Share"], [
      ["All", a.rejected, percent(1)],
      ["Defect: agrees with the model", a.defects, percent(a.rejected ? a.defects / a.rejected : NaN)],
      ["Good after all: over-kill", a.good, percent(a.rejected ? a.good / a.rejected : NaN)],
      ["Skipped", a.skipped, percent(a.rejected ? a.skipped / a.rejected : NaN)],
      ["Not looked at", a.open, percent(a.rejected ? a.open / a.rejected : NaN)],
    ]),
    html("p", {}, "Of the marked parts, defects: ", html("strong", {}, interval(a.agreed)), "."),
    html("p", {}, "Over-kills among good parts: ", waiting > 0
      ? [html("strong", {}, `at least ${percent(found.over_kill_rate?.share)}`), `; ${counted(waiting, "rejected part is", "rejected parts are")} still open.`]
      : [html("strong", {}, interval(found.over_kill_rate)), "."]));
  common(found);
}

function common(found) {
  if (found.agreement.good === 0) {
    by("common").replaceChildren(html("p", { class: "fine" }, "No part has been marked good after all yet."));
    return;
  }
  const clear = found.common.filter((c) => c.beyond_chance);
  const sentence = (c) => html("li", {}, html("strong", {}, `${PROPERTIES[c.property]}: ${c.value}`),
    `: ${c.over_kills} of ${c.of} over-kills, ${c.others} of ${c.of_others} ${c.property === "hour" || c.property === "model" ? "accepted parts" : "defects"}.`);
  const rest = found.common.filter((c) => c.over_kills * 4 >= c.of);
  by("common").replaceChildren(
    clear.length
      ? html("div", {}, html("p", {}, "More than chance explains:"), html("ul", {}, clear.map(sentence)))
      : html("p", {}, "Nothing that chance could not explain."),
    html("details", {}, html("summary", {}, "Counts"),
      html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "What over-kills have in common, as a table" },
        table("What over-kills have in common", ["Property", "Value", "Over-kills", "Compared", "p"], rest.map((c) => [
          PROPERTIES[c.property], c.value, `${c.over_kills} of ${c.of}`, `${c.others} of ${c.of_others}`, c.p_value < 0.001 ? "< 0.001" : number(c.p_value, 3),
        ])))),
    html("p", { class: "fine" }, "Place, size and score are compared with marked defects, time and model with accepted parts. p: Fisher's exact test, times the number of comparisons. It says what stands out, not why."));
}

by("mark-good").addEventListener("click", () => void mark("good"));
by("mark-defect").addEventListener("click", () => void mark("defect"));
by("mark-skip").addEventListener("click", () => void mark("skipped"));
by("mark-undo").addEventListener("click", () => void undo());

export const review = {
  async enter(shared) {
    line = shared;
    [queue, done, ends] = [[], [], false];
    await line.refresh();
    await fetchMore();
    await Promise.all([show(), figures(), enterCalibration(line)]);
  },

  key(event) {
    const does = { g: () => mark("good"), d: () => mark("defect"), s: () => mark("skipped"), u: undo }[event.key.toLowerCase()];
    if (!does || event.repeat) return false;
    void does();
    return true;
  },
};
