// Questions to the server. With a token, where one is asked for; it is kept by this tab alone.

import { by } from "./make.js";

const KEPT = "pbas-token";
let asking = null;

const token = () => sessionStorage.getItem(KEPT);
const headers = (more) => (token() ? { ...more, authorization: `Bearer ${token()}` } : { ...more });

export class Refused extends Error {
  constructor(status, message, hint) {
    super(hint ? `${message} (${hint})` : message);
    this.status = status;
  }
}

/** Asks the person for a token, once however many questions wait for it; true if one was given. */
export function askToken(why) {
  asking ??= new Promise((done) => {
    const dialog = by("token-dialog");
    by("token-why").textContent = why;
    by("token").value = "";
    dialog.addEventListener("close", () => {
      const given = by("token").value.trim();
      by("token").value = "";
      asking = null;
      if (dialog.returnValue === "ok" && given) sessionStorage.setItem(KEPT, given);
      done(dialog.returnValue === "ok" && given !== "");
    }, { once: true });
    dialog.returnValue = "";
    dialog.showModal();
  });
  return asking;
}

async function send(path, options = {}) {
  for (;;) {
    const used = token();
    const answer = await fetch(path, { ...options, headers: headers(options.headers) });
    if (answer.status === 401) {
      // Another question may have got a new token meanwhile.
      if (token() !== used) continue;
      if (await askToken(used ? "The server does not know this token." : "This server shows the line to those who have a token.")) continue;
    }
    if (!answer.ok) {
      const said = await answer.json().catch(() => ({}));
      throw new Refused(answer.status, said.error ?? `the server answered ${answer.status}`, said.hint);
    }
    return answer;
  }
}

export function query(path, parameters) {
  const given = Object.entries(parameters ?? {}).filter(([, v]) => v !== undefined && v !== null && v !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

export const get = async (path, parameters) => (await send(query(path, parameters))).json();
export const post = async (path, body) =>
  (await send(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) })).json();
export const postPicture = async (path, file) =>
  (await send(path, { method: "POST", headers: { "content-type": file.type || "application/octet-stream" }, body: file })).json();

/** Loads a picture into an image; with a token it has to be fetched, as an image cannot send one. False if there is none. */
export async function loadPicture(image, path) {
  let source = path;
  try {
    if (token() && path.startsWith("/")) source = URL.createObjectURL(await (await send(path)).blob());
    image.src = source;
    await image.decode();
    return true;
  } catch {
    return false;
  } finally {
    if (source !== path) URL.revokeObjectURL(source);
  }
}

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

/** Follows the line for ever: `part` and `missed` as they come, `state` with "live" or "lost". */
export async function follow(heard) {
  let last = null;
  for (let pause = 500; ; pause = Math.min(pause * 2, 10_000)) {
    try {
      const answer = await send("/v1/events", { headers: last === null ? {} : { "last-event-id": last }, cache: "no-store" });
      heard.state("live");
      if (last === null) heard.missed();
      pause = 500;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ;) {
        const { done, value } = await reader.read();
        if (done) break;
        const events = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
        rest = events.pop();
        for (const event of events) {
          const lines = event.split("\n");
          const field = (name) => lines.filter((l) => l.startsWith(`${name}:`)).map((l) => l.slice(name.length + 1).trimStart()).join("\n");
          last = field("id") || last;
          if (field("event") === "part") heard.part(JSON.parse(field("data")));
          if (field("event") === "missed") heard.missed();
        }
      }
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        heard.state("lost");
        return;
      }
    }
    heard.state("lost");
    await wait(pause);
  }
}
