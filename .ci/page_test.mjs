// The page in a real browser: every flow, at both widths, dark and light; no console error, nothing from elsewhere, axe without serious
// findings, no sideways scrolling, and the time to open over a long record.
//
// usage: node .ci/page_test.mjs MADE_UP_LINE MODEL PICTURES [--shots DIR] [--rows N]
//   MADE_UP_LINE  the built example `made_up_line` of pbas-line
// Exits with 3 where chromium or npm is missing, 1 where something does not hold.

import { spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";

const args = process.argv.slice(2);
const option = (name, usual) => (args.includes(name) ? args[args.indexOf(name) + 1] : usual);
const [binary, model, pictures] = args;
const rows = Number(option("--rows", "10000"));
const shots = option("--shots", null);
if (!pictures) {
  console.error("usage: node .ci/page_test.mjs MADE_UP_LINE MODEL PICTURES [--shots DIR] [--rows N]");
  process.exit(2);
}
if (shots) fs.mkdirSync(shots, { recursive: true });

const which = (name) => spawnSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).stdout?.trim() ?? "";
const chromium = which("chromium") || which("chromium-browser") || which("google-chrome");
const work = fs.mkdtempSync(path.join(os.tmpdir(), "page-test-"));
const skip = (why) => {
  console.log(`skipped: ${why}`);
  fs.rmSync(work, { recursive: true, force: true });
  process.exit(3);
};
if (!chromium) skip("there is no chromium");
if (!which("npm")) skip("there is no npm");
let modules = process.env.PAGE_TEST_MODULES;
if (!modules) {
  const got = spawnSync("npm", ["install", "--no-audit", "--no-fund", "--prefix", work, "playwright-core@1.65.1", "axe-core@4.14.1"], { encoding: "utf8" });
  if (got.status !== 0) skip("npm cannot fetch playwright-core and axe-core");
  modules = work;
}
const require = createRequire(path.join(path.resolve(modules), "x.js"));
const playwright = require("playwright-core");
const axe = require("axe-core").source;

let failed = 0;
let passed = 0;
const check = (holds, what) => {
  if (holds) passed += 1;
  else {
    failed += 1;
    console.log(`FAILED: ${what}`);
  }
};
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
async function until(test, what, ms = 15_000) {
  const end = Date.now() + ms;
  while (Date.now() < end) {
    if (await test()) return check(true, what);
    await sleep(50);
  }
  return check(false, what);
}

const children = [];
function serve(...more) {
  const child = spawn(binary, [model, pictures, ...more.map(String)], { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  return new Promise((done, fail) => {
    child.stdout.once("data", (line) => done(String(line).trim()));
    child.once("exit", (code) => fail(new Error(`the line ended with ${code}`)));
  });
}

const picture = (kind, n = 0) => {
  const folder = path.join(pictures, "test", kind);
  return path.join(folder, fs.readdirSync(folder).sort()[n]);
};
const verdict = (page) => page.textContent("#verdict-word");

/** A page that watches itself. */
async function open(browser, address, { width = 1280, height = 800, scheme = "light" } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, permissions: ["camera"] });
  const page = await context.newPage();
  const odd = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) odd.push(`${message.type()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => odd.push(`thrown: ${error.message}`));
  // Some parts of the made-up line have markup for a name.
  page.on("dialog", (dialog) => {
    odd.push(`a name was taken for markup: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("request", (request) => {
    if (!/^(blob:|data:)/.test(request.url()) && !request.url().startsWith(address)) odd.push(`request to ${request.url()}`);
  });
  await page.goto(address);
  await page.waitForSelector("#verdict:not([data-verdict=none])");
  return { page, odd, close: () => context.close() };
}

async function look(page, where, name) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  check(wide <= 0, `${where}: scrolls sideways by ${wide} px`);
  // The policy of the page lets no script in but its own; the debugger's way is not bound by it.
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  for (const v of found.violations) {
    const nodes = v.nodes.slice(0, 3).map((n) => `${n.target.join(" ")} ${n.any[0]?.message ?? ""}`).join("; ");
    if (["serious", "critical"].includes(v.impact)) check(false, `${where}: axe ${v.impact} ${v.id}: ${nodes}`);
    else console.log(`note: ${where}: axe ${v.impact} ${v.id}: ${nodes}`);
  }
  check(true, `${where}: axe ran`);
  if (shots) await page.screenshot({ path: path.join(shots, `${name}.png`), fullPage: true });
}

async function walk(browser, address, shape) {
  const { page, odd, close } = await open(browser, address, shape);
  const name = `${shape.width}-${shape.scheme}`;
  await page.waitForFunction(() => document.querySelectorAll("#strip img").length > 8 && document.querySelector("#live-picture canvas").width > 0);
  await sleep(400);
  await look(page, `live ${name}`, `live-${name}`);
  await page.waitForSelector("#verdict[data-verdict=anomalous]", { timeout: 1000 }).catch(() => {});
  // A rejected part from the strip, to see one whatever comes.
  const rejected = page.locator("#strip .tile[data-verdict=anomalous]").first();
  if (await rejected.count()) {
    await rejected.click();
    await sleep(500);
    await look(page, `live rejected ${name}`, `live-rejected-${name}`);
  }
  await page.click("nav a[data-view=try]");
  await look(page, `try empty ${name}`, `try-empty-${name}`);
  await page.setInputFiles("#file", picture("scratch"));
  await page.waitForSelector("#try-verdict[data-verdict=anomalous], #try-verdict[data-verdict=normal]");
  await page.waitForFunction(() => document.querySelector("#try-picture canvas").width > 0);
  await look(page, `try ${name}`, `try-${name}`);
  await page.click("nav a[data-view=review]");
  await page.waitForSelector("#agreement table");
  await page.waitForFunction(() => document.querySelector("#review-picture canvas").width > 0);
  await look(page, `review ${name}`, `review-${name}`);
  await page.click("nav a[data-view=drift]");
  await page.waitForSelector("#quantile-chart svg");
  await page.waitForFunction(() => [...document.querySelectorAll("#moved img")].every((i) => i.complete && i.naturalWidth > 0));
  await look(page, `drift ${name}`, `drift-${name}`);
  check(odd.length === 0, `${name}: ${odd.join(" | ")}`);
  await close();
}

async function liveFlow(browser, address) {
  const { page, odd, close } = await open(browser, address);
  const partNumber = async () => Number((await page.textContent("#verdict-why")).match(/part (\d+)/)?.[1]);
  const first = await partNumber();
  await until(async () => (await partNumber()) > first + 1, "live: parts come by themselves");
  check(["Good", "Reject", "Not read"].includes(await verdict(page)), "live: the verdict is one word");
  const size = await page.evaluate(() => parseFloat(getComputedStyle(document.querySelector("#verdict .word")).fontSize));
  check(size >= 110, `live: the word is ${size} px high`);
  check((await page.textContent("#connection")) === "connected", "live: it says that it is connected");
  check(Number((await page.textContent("#today-parts")).replaceAll(",", "")) > 0, "live: parts today");
  check(/%/.test(await page.textContent("#today-rate")), "live: a reject rate");
  check((await page.locator("#live-chart .dot").count()) > 50, "live: the chart has the last parts");
  const opacity = () => page.evaluate(() => document.querySelector("#live-picture canvas").style.opacity);
  await page.fill("#live-picture input[type=range]", "20");
  check((await opacity()) === "0.2", "live: the slider fades the map");
  await page.locator("body").press("m");
  check((await opacity()) === "0", "live: M hides the map");
  await page.locator("body").press("m");
  check((await opacity()) === "0.2", "live: M shows it again");
  // While the slider has the focus, arrows move it.
  await page.evaluate(() => document.activeElement.blur());
  await page.locator("body").press("ArrowLeft");
  await page.locator("body").press("ArrowLeft");
  check(await page.isVisible("#held"), "live: an earlier part is held");
  const held = await partNumber();
  await sleep(2500);
  check((await partNumber()) === held, "live: it stays while others come");
  await page.locator("body").press("Escape");
  await until(async () => (await partNumber()) > held + 1, "live: Esc follows the line again");
  await page.locator("body").press("?");
  check(await page.isVisible("#help"), "keys: ? shows them");
  await page.keyboard.press("Escape");
  for (const [key, view] of [["2", "try"], ["3", "review"], ["4", "drift"], ["1", "live"]]) {
    await page.locator("body").press(key);
    await until(() => page.isVisible(`#${view}`), `keys: ${key} shows ${view}`);
  }
  await page.keyboard.press("Tab");
  check((await page.evaluate(() => document.activeElement !== document.body)), "keys: Tab reaches something");
  await until(async () => (await page.locator("#strip .unseen").allTextContents()).some((t) => t.includes("<img")), "live: markup in a name is text");
  check(odd.length === 0, `live: ${odd.join(" | ")}`);
  await close();
}

async function tryFlow(browser, address) {
  const { page, odd, close } = await open(browser, `${address}`);
  await page.locator("body").press("2");
  const names = async () => (await (await page.request.get(`${address}/v1/parts?limit=1000`)).json()).filter((p) => p.size !== 150000).length;
  const before = await names();
  await page.setInputFiles("#file", picture("good"));
  await page.waitForSelector("#try-verdict[data-verdict=normal], #try-verdict[data-verdict=anomalous]");
  const bytes = fs.readFileSync(picture("dent", 1)).toString("base64");
  await page.evaluate((bytes) => {
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], "dropped.png", { type: "image/png" }));
    document.querySelector("#drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
  }, bytes);
  await until(async () => (await page.textContent("#try-verdict .why")).includes("not recorded"), "try: a dropped picture is judged");
  await page.waitForFunction(() => document.querySelector("#try-picture canvas").width > 0);
  check((await names()) === before, "try: nothing is recorded");
  await page.click("#camera");
  await page.waitForSelector("#video:visible");
  await until(() => page.evaluate(() => document.querySelector("#video").videoWidth > 0), "try: the camera shows");
  await page.locator("body").press(" ");
  await until(async () => /640|1280|1920/.test(await page.textContent("#try-verdict .why")), "try: Space judges what the camera sees");
  await page.click("#camera-off");
  check(!(await page.isVisible("#video")), "try: the camera goes off");
  check(odd.length === 0, `try: ${odd.join(" | ")}`);
  const bad = path.join(work, "bad.png");
  fs.writeFileSync(bad, "this is no picture");
  await page.setInputFiles("#file", bad);
  await page.waitForSelector("#try-verdict[data-verdict=failed]");
  check((await page.textContent("#try-verdict .why")).includes("not a picture"), "try: it says why a file cannot be read");
  await close();
}

async function reviewFlow(browser, address) {
  const { page, odd, close } = await open(browser, address);
  const ask = async (where) => (await page.request.get(`${address}${where}`)).json();
  await page.locator("body").press("3");
  await page.waitForSelector("#agreement table");
  const queue = (await ask("/v1/parts?verdict=anomalous&review=none&order=oldest&limit=6")).map((p) => p.id);
  const shown = async () => Number((await page.textContent("#review-part .facts")).match(/Part(\d+)/)?.[1]);
  check((await shown()) === queue[0], "review: the oldest comes first");
  for (const [i, [key, review]] of [["g", "good"], ["d", "defect"], ["s", "skipped"]].entries()) {
    await page.locator("body").press(key);
    await until(async () => (await shown()) === queue[i + 1], `review: ${key} goes on to the next`);
    await until(async () => (await ask(`/v1/parts/${queue[i]}`)).review === review, `review: ${key} is recorded`);
    await sleep(300);
  }
  await page.locator("body").press("u");
  await until(async () => (await ask(`/v1/parts/${queue[2]}`)).review === null, "review: U takes it back");
  await until(async () => (await shown()) === queue[2], "review: U shows it again");
  await sleep(300);
  // Every rejected part up to a good way into the record, by its regions as a person would by eye.
  const waiting = await ask("/v1/parts?verdict=anomalous&review=none&order=oldest&limit=1000");
  for (const part of waiting.slice(0, -25)) {
    await page.request.post(`${address}/v1/parts/${part.id}/review`, { data: { review: part.name.startsWith("good") ? "good" : "defect" } });
  }
  await page.locator("body").press("1");
  await page.locator("body").press("3");
  await until(async () => /\d+ of \d+|Nothing/.test(await page.textContent("#common")), "review: over-kills are compared");
  check(/95.% interval/.test(await page.textContent("#agreement")), "review: agreement has its interval");

  const inService = async () => (await ask("/v1/summary")).models[0];
  const before = await inService();
  await page.click("#look");
  await page.waitForSelector("#preview .warn");
  check(/still open/.test(await page.textContent("#preview")), "recalibrate: refused while parts are open");
  await page.click("#preview button");
  await page.waitForSelector("#apply");
  const text = await page.textContent("#preview");
  check(/would turn|None would turn/.test(text) && /accepted parts?, taken as good/.test(text), "recalibrate: it says what would change");
  check((await inService()).digest === before.digest, "recalibrate: nothing is changed by looking");
  if (shots) {
    await page.locator("#calibrate").scrollIntoViewIfNeeded();
    await page.screenshot({ path: path.join(shots, "recalibrate.png"), fullPage: true });
  }
  await look(page, "recalibrate", "recalibrate-preview");
  await page.click("#apply");
  await page.waitForSelector("#preview .done");
  const after = await inService();
  check(after.digest !== before.digest && after.promise.threshold !== before.promise.threshold, "recalibrate: the new threshold is in service");
  await page.click("#undo-calibration");
  await until(async () => (await inService()).digest === before.digest, "recalibrate: undone");
  await until(async () => /earlier threshold/.test(await page.textContent("#preview")), "recalibrate: it says so");
  check(odd.length === 0, `review: ${odd.join(" | ")}`);
  await close();
}

async function driftFlow(browser, address) {
  const { page, odd, close } = await open(browser, address);
  await until(() => page.isVisible("#drift-badge"), "drift: an alarm shows on the live view");
  await page.locator("body").press("4");
  await page.waitForSelector("#watches .watch[data-alarm=yes]");
  check(await page.isVisible("#drift-badge"), "drift: the alarm shows in the bar");
  check(/higher than before/.test(await page.textContent("#watches")), "drift: it says where to");
  check(/at most 1/.test(await page.textContent("#rule")), "drift: it states its false alarm rate");
  await page.click("#by-day");
  await until(async () => (await page.locator("#quantile-chart .q1 circle").count()) <= 4, "drift: by day");
  check((await page.locator("#moved li").count()) === 12, "drift: the pictures that moved most");
  await page.click("#drift summary");
  check((await page.locator("#quantile-table tbody tr").count()) > 2, "drift: the same as a table");
  check(odd.length === 0, `drift: ${odd.join(" | ")}`);
  await close();
}

async function tokenFlow(browser, address) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  const thrown = [];
  page.on("pageerror", (error) => thrown.push(error.message));
  await page.goto(address);
  const give = async (token) => {
    await page.waitForSelector("#token-dialog[open]");
    await page.fill("#token", token);
    await page.keyboard.press("Enter");
  };
  await give("wrong");
  await until(async () => /does not know/.test(await page.textContent("#token-why")), "token: a wrong one is asked for again");
  await look(page, "token", "token");
  await give("secret-read");
  await page.waitForSelector("#verdict:not([data-verdict=none])");
  await page.waitForFunction(() => document.querySelector("#live-picture canvas").width > 0);
  check(true, "token: pictures come with it");
  await page.locator("body").press("3");
  await page.waitForSelector("#may-not:visible");
  check(await page.isDisabled("#mark-good"), "token: who may look on cannot mark");
  await page.click("#enter-token");
  await give("secret");
  await page.waitForSelector("#mark-good:enabled");
  check(true, "token: an admin can mark");
  check(thrown.length === 0, `token: ${thrown.join(" | ")}`);
  await context.close();
}

async function openingTime(browser, address) {
  const times = [];
  for (let i = 0; i < 7; i += 1) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
    const page = await context.newPage();
    const start = performance.now();
    await page.goto(address, { waitUntil: "commit" });
    await page.waitForFunction(() => document.querySelector("#verdict").dataset.verdict !== "none"
      && document.querySelector("#live-picture img").naturalWidth > 0 && document.querySelectorAll("#live-chart .dot").length > 0
      && document.querySelector("#today-parts").textContent !== "-", undefined, { polling: 10 });
    times.push(performance.now() - start);
    await context.close();
  }
  times.sort((a, b) => a - b);
  console.log(`opens over ${rows} rows: median ${times[3].toFixed(0)} ms, of 7: ${times.map((t) => t.toFixed(0)).join(" ")}`);
  check(times[3] < 1000, `opens in ${times[3].toFixed(0)} ms, more than a second`);
}

let status = 1;
let browser = null;
try {
  browser = await playwright.chromium.launch({
    executablePath: chromium,
    args: ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
  });
  const address = await serve(rows, 700);
  const only = option("--only", "time,walk,live,try,drift,review,token").split(",");
  const parts = {
    time: () => openingTime(browser, address),
    walk: async () => {
      for (const width of [1280, 390]) {
        for (const scheme of ["light", "dark"]) await walk(browser, address, { width, height: width === 390 ? 844 : 800, scheme });
      }
    },
    live: () => liveFlow(browser, address),
    try: () => tryFlow(browser, address),
    drift: () => driftFlow(browser, address),
    review: () => reviewFlow(browser, address),
    token: async () => tokenFlow(browser, await serve(300, 700, "secret")),
  };
  for (const name of only) await parts[name]();
  console.log(`${passed} hold, ${failed} do not`);
  status = failed === 0 ? 0 : 1;
} catch (error) {
  console.log(`FAILED: ${error.stack}`);
} finally {
  await browser?.close();
  children.forEach((child) => child.kill());
  fs.rmSync(work, { recursive: true, force: true });
}
process.exit(status);
