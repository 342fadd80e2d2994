// A part's picture with its map over it and its regions around. The map is a grey PNG; it is coloured here, so that it can be faded.

import { loadPicture } from "./ask.js";
import { html, number, svg } from "./make.js";

const KEPT = "pbas-map";
// Black, purple, red, orange, yellow: bright is high, also for those who see no colours.
const COLOURS = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];
const shown = new Set();
let opacity = Number(localStorage.getItem(KEPT) ?? 0.6);
let before = 0.6;

function colour(grey) {
  const at = (grey / 255) * (COLOURS.length - 1);
  const low = Math.min(Math.floor(at), COLOURS.length - 2);
  return COLOURS[low].map((c, i) => Math.round(c + (COLOURS[low + 1][i] - c) * (at - low)));
}
const TABLE = Array.from({ length: 256 }, (_, grey) => [...colour(grey), Math.min(255, grey * 3)]);

function setOpacity(value) {
  opacity = value;
  localStorage.setItem(KEPT, value);
  shown.forEach((picture) => picture.fade());
}

/** Map on and off, on every picture. */
export function toggleMap() {
  if (opacity > 0) {
    before = opacity;
    setOpacity(0);
  } else setOpacity(before || 0.6);
}

export class Picture {
  constructor(box) {
    this.turn = 0;
    this.image = html("img", { alt: "", hidden: true });
    this.canvas = html("canvas", { "aria-hidden": "true" });
    this.regions = svg("svg", { class: "regions", "aria-hidden": "true", preserveAspectRatio: "none" });
    this.empty = html("p", { class: "empty" }, "No picture");
    this.stage = html("div", { class: "stage" }, this.empty, this.image, this.canvas, this.regions);
    this.slider = html("input", { type: "range", min: 0, max: 100, step: 1, oninput: (e) => setOpacity(e.target.value / 100) });
    this.slider.value = opacity * 100;
    const label = html("label", { class: "slider" }, html("span", {}, "Map"), this.slider, html("kbd", { "aria-hidden": "true" }, "M"));
    box.replaceChildren(html("div", { class: "frame" }, this.stage), label);
    shown.add(this);
    this.fade();
  }

  fade() {
    this.canvas.style.opacity = opacity;
    this.slider.value = Math.round(opacity * 100);
  }

  clear(text = "No picture") {
    this.turn += 1;
    this.empty.textContent = text;
    this.empty.hidden = false;
    this.image.hidden = true;
    this.canvas.width = this.canvas.height = 0;
    this.regions.replaceChildren();
  }

  /** Shows a picture; what comes later wins, however long the earlier one takes. */
  async show({ thumbnail, map, alt, width, height, regions }) {
    const turn = (this.turn += 1);
    const [image, grey] = [new Image(), new Image()];
    const [has, hasMap] = await Promise.all([loadPicture(image, thumbnail), map ? loadPicture(grey, map) : false]);
    if (turn !== this.turn) return;
    if (!has) {
      this.clear("The record has no picture of this part");
      return;
    }
    image.alt = alt;
    this.image.replaceWith(image);
    this.image = image;
    this.empty.hidden = true;
    this.stage.style.aspectRatio = `${width} / ${height}`;
    this.stage.style.setProperty("--shape", width / height);
    this.paint(hasMap ? grey : null);
    this.draw(width, height, regions ?? []);
  }

  paint(grey) {
    this.canvas.width = grey ? grey.naturalWidth : 0;
    this.canvas.height = grey ? grey.naturalHeight : 0;
    if (!grey) return;
    const context = this.canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(grey, 0, 0);
    const pixels = context.getImageData(0, 0, this.canvas.width, this.canvas.height);
    for (let i = 0; i < pixels.data.length; i += 4) pixels.data.set(TABLE[pixels.data[i]], i);
    context.putImageData(pixels, 0, 0);
  }

  draw(width, height, regions) {
    this.regions.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const box = (r, kind) =>
      svg("rect", { class: kind, x: r.x, y: r.y, width: r.width, height: r.height, "vector-effect": "non-scaling-stroke" });
    this.regions.replaceChildren(...regions.flatMap((r) => [box(r, "halo"), box(r, "edge")]));
  }
}

/** What a recorded part needs to be shown. */
export const ofPart = (part, text) => ({
  thumbnail: `/v1/parts/${part.id}/thumbnail`,
  map: `/v1/parts/${part.id}/map`,
  alt: text,
  width: part.width,
  height: part.height,
  regions: part.regions,
});

/** Regions in words. */
export function regionList(regions) {
  if (!regions?.length) return html("p", { class: "fine" }, "No region stands out.");
  return html("ol", { class: "region-list" }, regions.slice(0, 8).map((r) =>
    html("li", {}, `${r.width} × ${r.height} pixels at (${r.x}, ${r.y}), peak ${number(r.peak)}`)));
}
