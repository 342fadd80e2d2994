// A new threshold from the record: what would change is shown first.

import { get, post } from "./ask.js";
import { by, counted, html, number, percent, table, when } from "./make.js";

let line = null;
let preview = null;

const field = (label, input, hint) => html("label", { class: "field" }, label, input, hint ? html("span", { class: "fine" }, hint) : null);
const local = (id) => (by(id).value ? new Date(by(id).value).toISOString() : undefined);

function forInput(time) {
  const date = new Date(time);
  date.setMinutes(date.getMinutes() - date.getTimezoneOffset());
  return date.toISOString().slice(0, 19);
}

const proven = (p) =>
  p.proven ? "proven" : p.proven_rate === null ? "not proven: its pictures were trained on" : `an estimate; proven is ${percent(p.proven_rate)}`;

function promise(p, threshold = p.threshold) {
  return [number(threshold, 3), percent(p.false_reject_rate), proven(p), String(p.pictures)];
}

function turned(what, t) {
  if (t.parts === 0) return html("li", {}, `None would turn from ${what}.`);
  const marks = [t.marked_good && `${t.marked_good} marked good`, t.marked_defect && `${t.marked_defect} marked as defects`].filter(Boolean);
  return html("li", {}, html("strong", {}, `${counted(t.parts, "part")} would turn from ${what}`), marks.length ? `: ${marks.join(", ")}.` : ".");
}

function sampleText(s) {
  const left = [s.defects && counted(s.defects, "part marked as a defect", "parts marked as defects"), s.copies && counted(s.copies, "copy", "copies"),
    s.trained_on && `${counted(s.trained_on, "picture")} that the model was trained on`, s.failed && `${counted(s.failed, "part")} without a verdict`].filter(Boolean);
  return `Sample: ${counted(s.accepted, "accepted part")}, taken as good, and ${counted(s.good_after_all, "rejected part")} marked good.${left.length ? ` Left out: ${left.join(", ")}.` : ""}`;
}

function showPreview() {
  const p = preview;
  const may = line.summary?.may_change ?? false;
  const rows = [["In service", ...promise(p.change?.before ?? p.in_service)]];
  if (p.change) rows.push(["New", ...promise(p.change.after, p.change.after_on_this_scale)]);
  const parts = [
    html("p", {}, sampleText(p.sample)),
    html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Thresholds before and after" },
      table("Thresholds before and after", ["Model", "Threshold", "Good parts rejected", "Is that proven?", "Good parts behind it"], rows)),
  ];
  if (p.change) {
    const c = p.change;
    parts.push(
      html("p", { class: "fine" }, `Both thresholds are on the scale of the model in service. A recalibration ranks scores anew: the new model will state its threshold as ${number(c.after.threshold, 3)}.`),
      html("p", {}, `Of ${counted(c.parts, "part")} of this time on the record:`),
      html("ul", {}, turned("rejected to good", c.to_normal), turned("good to rejected", c.to_anomalous)));
    if (c.before.proven_rate !== null && c.after.proven_rate > c.before.proven_rate) {
      parts.push(html("p", { class: "warn" }, `Less would be proven than is now: ${counted(c.after.pictures, "good part")} would stand behind the threshold. A longer time gives more.`));
    }
    if (c.to_normal.marked_defect > 0) {
      parts.push(html("p", { class: "warn" }, `${counted(c.to_normal.marked_defect, "part")} marked as ${c.to_normal.marked_defect === 1 ? "a defect" : "defects"} would pass. A lower rate raises the threshold, a higher one lowers it.`));
    }
    parts.push(html("div", { class: "row" }, html("button", { type: "button", class: "main", id: "apply", disabled: !may, onclick: () => void apply() }, "Put the new threshold into service")),
      html("p", { class: "fine" }, may ? "The model file of now is kept beside the new one, and this can be undone." : "This needs an admin token."));
  } else {
    parts.push(html("p", { class: "warn" }, `Not yet: ${p.refused}.`));
    if (p.sample.first_open) {
      parts.push(html("button", { type: "button", onclick: () => {
        by("until").value = forInput(p.sample.first_open);
        void look();
      } }, `Use the time before the first open part (${when(p.sample.first_open)})`));
    }
  }
  by("preview").replaceChildren(...parts);
  showUndo(p.undo);
}

function showUndo(file) {
  const may = line.summary?.may_change ?? false;
  by("undo-place").replaceChildren(...(file
    ? [html("button", { type: "button", id: "undo-calibration", disabled: !may, onclick: () => void undo() }, "Undo the last recalibration"),
      html("span", { class: "fine" }, `brings back ${file}`)]
    : []));
}

async function look() {
  try {
    const rate = Number(by("rate").value) / 100;
    preview = await get("/v1/calibration", { model: line.model, since: local("since"), until: local("until"), rate: rate || undefined });
    showPreview();
  } catch (error) {
    by("preview").replaceChildren(html("p", { class: "warn" }, error.message));
  }
}

async function change(path, body, text) {
  try {
    const now = await post(path, body);
    await line.refresh();
    by("preview").replaceChildren(html("p", { class: "done", role: "status" }, `${text} Threshold ${number(now.in_service.threshold, 3)}, model file ${now.digest.slice(0, 8)}.`));
    by("rate").value = now.in_service.false_reject_rate * 100;
    showUndo(now.undo);
  } catch (error) {
    by("preview").prepend(html("p", { class: "warn", role: "alert" }, error.message));
  }
}

const apply = () => change("/v1/calibration", {
  model: preview.model, since: preview.since, until: preview.until, rate: preview.rate, digest: preview.digest, fingerprint: preview.sample.fingerprint,
}, "The new threshold is in service.");
const undo = () => change("/v1/calibration/undo", {
  model: line.model, digest: line.summary.models.find((m) => m.name === line.model).digest,
}, "The earlier threshold is back in service.");

export async function enterCalibration(shared) {
  line = shared;
  const model = line.summary?.models.find((m) => m.name === line.model);
  if (!model) {
    by("calibrate").replaceChildren(html("h2", {}, "Recalibrate"), html("p", { class: "fine" }, "There is no model in service."));
    return;
  }
  by("calibrate").replaceChildren(
    html("h2", {}, "Recalibrate the threshold from the record"),
    html("p", { class: "fine" }, "From parts that this very model file judged in the chosen time, when every rejected one has been reviewed: all accepted parts, taken as good, and the rejected ones marked good. Parts marked good alone would be a biased sample: they all lie above the threshold."),
    html("form", { class: "fields", onsubmit: (event) => {
      event.preventDefault();
      void look();
    } },
    field("From", html("input", { type: "datetime-local", id: "since", step: 1 }), "empty: the first part"),
    field("Until", html("input", { type: "datetime-local", id: "until", step: 1 }), "empty: now"),
    field("Good parts rejected, %", html("input", { type: "number", id: "rate", min: 0.0001, max: 50, step: "any", value: Number((model.promise.false_reject_rate * 100).toPrecision(4)) })),
    html("button", { class: "main", id: "look" }, "Show what would change")),
    html("div", { id: "preview", "aria-live": "polite" }),
    html("div", { class: "row", id: "undo-place" }));
  const first = await get("/v1/calibration", { model: line.model, until: new Date().toISOString() });
  showUndo(first.undo);
}
