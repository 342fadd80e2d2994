// A picture of one's own, judged and shown, not recorded.

import { postPicture } from "./ask.js";
import { by, html, number, showVerdict, why } from "./make.js";
import { Picture, regionList } from "./picture.js";

const picture = new Picture(by("try-picture"));
let line = null;
let stream = null;
let turn = 0;

async function judge(file) {
  if (!file) return;
  const mine = (turn += 1);
  const box = by("try-verdict");
  showVerdict(box, "none", "Judging");
  box.querySelector(".why").textContent = file.name ?? "";
  by("try-regions").replaceChildren();
  try {
    if (!line.model) throw new Error("There is no model in service.");
    const said = await postPicture(`/v1/try/${encodeURIComponent(line.model)}`, file);
    if (mine !== turn) return;
    showVerdict(box, said.verdict);
    box.querySelector(".why").replaceChildren(html("span", { class: "reason" }, why(said)),
      html("span", {}, `model ${said.model}, ${said.width} × ${said.height}, ${number(said.milliseconds, 0)} ms, not recorded`));
    await picture.show({
      thumbnail: `data:image/jpeg;base64,${said.thumbnail}`,
      map: `data:image/png;base64,${said.map}`,
      alt: `the tried picture, ${said.verdict === "anomalous" ? "rejected" : "good"}`,
      width: said.width,
      height: said.height,
      regions: said.regions,
    });
    if (mine === turn) by("try-regions").replaceChildren(html("h2", {}, "Regions"), regionList(said.regions));
  } catch (error) {
    if (mine !== turn) return;
    showVerdict(box, "failed");
    box.querySelector(".why").textContent = error.message;
    picture.clear();
  }
}

function cameraOff() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  by("video").srcObject = null;
  for (const id of ["video", "shoot", "camera-off"]) by(id).hidden = true;
  by("camera").hidden = false;
}

async function cameraOn() {
  try {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("A browser gives its camera to pages from this machine or over TLS alone; open the page so, or drop a picture.");
    }
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } }, audio: false });
    by("video").srcObject = stream;
    await by("video").play();
    for (const id of ["video", "shoot", "camera-off"]) by(id).hidden = false;
    by("camera").hidden = true;
    by("shoot").focus();
  } catch (error) {
    cameraOff();
    line.notice(`The camera cannot be used: ${error.message}`);
  }
}

function shoot() {
  const video = by("video");
  if (!stream || !video.videoWidth) return;
  const canvas = html("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => void judge(blob), "image/png");
}

by("file").addEventListener("change", (event) => {
  void judge(event.target.files[0]);
  event.target.value = "";
});
for (const kind of ["dragenter", "dragover"]) {
  by("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    by("drop").classList.add("over");
  });
}
by("drop").addEventListener("dragleave", () => by("drop").classList.remove("over"));
by("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  by("drop").classList.remove("over");
  void judge(event.dataTransfer.files[0]);
});
// A picture dropped beside the place must not replace the page.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
window.addEventListener("paste", (event) => {
  if (!by("try").hidden) void judge([...(event.clipboardData?.files ?? [])][0]);
});
by("camera").addEventListener("click", () => void cameraOn());
by("camera-off").addEventListener("click", cameraOff);
by("shoot").addEventListener("click", shoot);

export const attempt = {
  enter(shared) {
    line = shared;
  },

  leave() {
    cameraOff();
  },

  key(event) {
    if (event.key !== " " || !stream) return false;
    shoot();
    return true;
  },
};
