// The reader: `run.py` starts this with its settings. One line a check; exit status 1 if one of them failed.
const fs = require("fs");
const { chromium } = require("playwright-core");
const { uploads, worked } = require("./uploads.js");

const settings = JSON.parse(process.argv[2]);
const report = [];
const MINUTES = 60 * 1000;
const FIRST_SOUND = 10; // s after Run all, in chapter 0

function check(chapter, what, good, detail = "") {
  report.push({ chapter, what, good: !!good, detail: String(detail).slice(0, 400) });
  console.log(`${good ? "ok    " : "FAILED"} ${chapter}: ${what}${detail ? ` (${String(detail).slice(0, 200)})` : ""}`);
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function until(test, ms, every = 250) {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(every)) {
    const found = await test();
    if (found) return found;
  }
  return null;
}

// --- what the page says

const shown = (page) => page.evaluate(() => {
  // all that outputs and widgets show; a player's clock and a recorder's countdown are no answer to a press
  const text = [...document.querySelectorAll(".jp-OutputArea")].map((one) => one.innerText).join("|");
  const media = [...document.querySelectorAll(".jp-OutputArea img, .jp-OutputArea audio")].map((one) => one.src.length);
  return `${text.length}:${text.slice(-20000)}:${media.join()}`;
});

const players = (page) => page.evaluate(() => {
  const all = [...document.querySelectorAll("audio")];
  const nameless = all.filter((one) => !one.getAttribute("aria-label")).length;
  return { all: all.length, empty: all.filter((one) => !(one.duration > 0)).length, nameless };
});

async function idle(page, ms) {
  const running = () => page.evaluate(() => [...document.querySelectorAll(".jp-InputPrompt")]
    .filter((one) => one.textContent.includes("*")).length);
  await sleep(3000);
  return until(async () => (await running()) === 0, ms, 1000);
}

async function answers(page, act, ms = 30000) {
  const before = await shown(page);
  await act();
  return until(async () => (await shown(page)) !== before, ms);
}

// every request that is not to this machine's JupyterLab or to a file here, as they come
function foreign(page) {
  const found = [];
  page.on("request", (request) => {
    const url = request.url();
    if (!/^(file|data|blob|about|attachment):/.test(url) && !(settings.address && url.startsWith(settings.address))) found.push(url);
  });
  return found;
}

async function theCheckCanFail(browser) {
  const page = await browser.newPage();
  const found = foreign(page);
  await page.setContent('<img src="https://192.0.2.1/a.png"><script src="http://192.0.2.1/a.js"></script>');
  await until(() => found.length > 1, 5000);
  check("the driver", "sees what a page wants from the network", found.length === 2, found);
  await page.close();
}

// --- what a reader does

async function open(page, chapter) {
  await page.goto(`${settings.address}/lab/workspaces/${chapter}/tree/notebooks/${chapter}.ipynb?token=reader`);
  await page.waitForSelector(".jp-Notebook .jp-CodeCell", { timeout: 2 * MINUTES });
  await until(() => page.evaluate(() => !/No Kernel/.test(document.querySelector(".jp-NotebookPanel-toolbar").innerText)
    && document.querySelector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')), MINUTES);
  await sleep(3000);
}

// a fresh clone's notebook: no script runs and no widget lives, so a sentence stands in their place
async function untrusted(page, chapter) {
  await page.screenshot({ path: `${settings.out}/${chapter}-stored.png` });
  const found = await page.evaluate(() => ({
    live: document.querySelectorAll(".jp-OutputArea .jupyter-widgets").length,
    saves: [...document.querySelectorAll(".jp-OutputArea a[download]")].length,
    said: [...document.querySelectorAll(".jp-OutputArea")].map((one) => one.innerText).join("\n")
      .match(/In a running notebook|This does nothing until/g) || [],
  }));
  const first = page.locator(".jp-OutputArea :text-matches('In a running notebook|This does nothing until')").first();
  if (found.said.length) {
    await first.scrollIntoViewIfNeeded();
    await page.screenshot({ path: `${settings.out}/${chapter}-untrusted.png` });
  }
  const wanted = settings.widgets[chapter];
  check(chapter, "untrusted: a sentence for each widget and link", found.said.length >= wanted && !found.live,
    `${found.said.length} of ${wanted}, ${found.live} live`);
}

async function runAll(page, chapter) {
  await page.evaluate(() => document.querySelectorAll("audio").forEach((one) => { one.dataset.stored = "yes"; }));
  await page.click('.lm-MenuBar-itemLabel:text-is("Run")');
  await page.click('.lm-Menu-itemLabel:text-is("Restart Kernel and Run All Cells…")');
  const began = Date.now();
  await page.click(".jp-Dialog .jp-mod-accept.jp-mod-warn, .jp-Dialog button.jp-mod-accept");
  const sounds = () => page.evaluate(() => [...document.querySelectorAll("audio:not([data-stored])")]
    .some((one) => one.duration > 0));
  const heard = (await until(sounds, 10 * MINUTES)) && (Date.now() - began) / 1000;
  check(chapter, "Run all: the first sound", heard && (heard < FIRST_SOUND || !/^00/.test(chapter)), `${heard} s`);
  const done = await idle(page, 60 * MINUTES);
  check(chapter, "Run all", done, `${Math.round((Date.now() - began) / 1000)} s`);
}

async function faults(page, chapter) {
  await sleep(2000);
  const found = await page.evaluate(() => ({
    stderr: [...document.querySelectorAll('[data-mime-type="application/vnd.jupyter.stderr"]')]
      .map((one) => one.innerText.slice(0, 200)),
    errors: [...document.querySelectorAll('[data-mime-type="application/vnd.jupyter.error"]')]
      .map((one) => one.innerText.slice(-200)),
    pictures: [...document.querySelectorAll(".jp-Notebook img")].filter((one) => !one.naturalWidth)
      .map((one) => one.src.slice(0, 80)), // JupyterLab asks for attachments by name first, and then by content
    dead: document.body.innerText.split("Error displaying widget").length - 1,
  }));
  check(chapter, "nothing on stderr", !found.stderr.length, found.stderr.join(" / "));
  check(chapter, "no error", !found.errors.length, found.errors.join(" / "));
  check(chapter, "every picture is there", !found.pictures.length, found.pictures.join(" "));
  check(chapter, "no widget without a model", !found.dead, found.dead || "");
  const heard = await players(page);
  check(chapter, "no empty player", !heard.empty, `${heard.all} players`);
  check(chapter, "every player has a name", !heard.nameless, heard.nameless || "");
  const loud = await page.evaluate(async () => {
    const pair = [...document.querySelectorAll("audio")].slice(0, 2);
    for (const one of pair) { one.muted = true; await one.play(); }
    await new Promise((done) => setTimeout(done, 700));
    const going = pair.filter((one) => !one.paused).length;
    const cursor = document.querySelector(".heard .at");
    pair.forEach((one) => one.pause());
    return pair.length < 2 ? 1 : going;
  });
  check(chapter, "one sounds at a time", loud <= 1, loud);
}

async function cursor(page, chapter) {
  const moved = await page.evaluate(async () => {
    const one = document.querySelector(".heard");
    if (!one) return null;
    const audio = one.querySelector("audio"), at = one.querySelector(".at");
    audio.muted = true; await audio.play(); await new Promise((done) => setTimeout(done, 1200)); audio.pause();
    return parseFloat(at.style.left) > 0 && at.style.opacity > 0;
  });
  if (moved !== null) check(chapter, "a cursor moves over the spectrogram", moved);
}

const controls = (page) => page.locator(".jp-OutputArea .widget-slider:visible .noUi-handle, .jp-OutputArea .widget-dropdown select:visible, .jp-OutputArea .widget-select select:visible, .jp-OutputArea .widget-checkbox input:visible, .jp-OutputArea .widget-text input[type=number]:visible");

async function operate(one) {
  const kind = await one.evaluate((element) => element.tagName + (element.type || ""));
  await one.scrollIntoViewIfNeeded();
  if (kind.startsWith("SELECT")) {
    const value = await one.evaluate((element) => [...element.options].find((option) => !option.selected).value);
    await one.selectOption(value);
  } else if (kind.endsWith("checkbox")) await one.click();
  else if (kind.endsWith("number")) {
    await one.fill(String(Number(await one.inputValue()) + 1));
    await one.press("Enter");
  } else {
    await one.focus();
    await one.press((await one.getAttribute("aria-valuenow")) === (await one.getAttribute("aria-valuemax")) ? "ArrowLeft" : "ArrowRight");
  }
  return kind;
}

async function everyWidget(page, chapter, most = 40) {
  const all = controls(page);
  const count = Math.min(most, await all.count());
  const dead = [];
  for (let k = count - 1; k >= 0; k--) { // a list of words comes before their sliders, and takes some of them away
    let kind = "";
    if (!(await answers(page, async () => { kind = await operate(all.nth(k)); }))) dead.push(`${k}: ${kind}`);
  }
  if (count) check(chapter, "every control changes what is shown", !dead.length, dead.join() || `${count} controls`);
  const buttons = page.locator(".jp-OutputArea .widget-button:not([type=button]):visible, .jp-OutputArea button.jupyter-button:visible");
  const still = [];
  for (let k = 0; k < (await buttons.count()); k++) {
    const name = (await buttons.nth(k).innerText()).trim();
    if (!name || /^(record|stop|noise|mixture|enrollment|clips|conversation)/.test(name)) continue;
    const answered = await answers(page, () => buttons.nth(k).click(), 2 * MINUTES);
    if (!answered && name !== "best" && name !== "worst") still.push(name); // what is shown already changes nothing
  }
  check(chapter, "every button answers", !still.length, still.join());
}

async function record(page, chapter) {
  const buttons = page.locator('.jp-OutputArea button[type=button]:has-text("record")');
  const count = await buttons.count();
  if (!count) return;
  const button = buttons.nth(Math.max(0, count - 2)); // the last two are of the pair that is worked on
  await button.scrollIntoViewIfNeeded();
  await button.click();
  const began = Date.now();
  const level = await page.evaluate(async () => {
    let highest = 0; // the microphone's syllables have gaps
    for (let k = 0; k < 30; k++) {
      highest = Math.max(highest, ...[...document.querySelectorAll("meter")].map((one) => one.value));
      await new Promise((done) => setTimeout(done, 50));
    }
    return highest;
  });
  check(chapter, "the recorder's meter moves", level > 0.01, level);
  await page.screenshot({ path: `${settings.out}/${chapter}-recording.png` });
  await sleep(1500);
  await page.locator('.jp-OutputArea button[type=button]:text-is("stop")').click();
  const passed = (Date.now() - began) / 1000;
  const said = await until(() => page.evaluate(() => {
    const text = [...document.querySelectorAll(".widget-html-content")].map((one) => one.innerText).join("\n");
    const found = text.match(/recording 1, ([\d.]+) s/);
    return found && Number(found[1]);
  }), 20000);
  check(chapter, "a recording arrives in Python", said > 2 && said < passed + 1, `${said} s`);
  const back = await page.evaluate(() => [...document.querySelectorAll('audio[aria-label^="what was recorded"]')]
    .map((one) => one.duration));
  check(chapter, "it can be heard back", back.length === 1 && Math.abs(back[0] - said) < 0.2, back);
  check(chapter, "what was recorded is worked on", await worked(page, /\S/.source, until));
}

async function reload(page, chapter) {
  const before = await controls(page).count();
  await page.keyboard.press("Control+s"); // as JupyterLab does by itself every two minutes
  await until(() => page.evaluate(() => !document.querySelector(".jp-mod-dirty")), 20000);
  await page.reload();
  await page.waitForSelector(".jp-Notebook .jp-CodeCell", { timeout: 2 * MINUTES });
  if (!before) return;
  const first = controls(page).first();
  const there = await until(async () => (await controls(page).count()) >= before, 30000);
  check(chapter, "after the page was loaded anew its widgets are there", there, `${await controls(page).count()} of ${before}`);
  if (!there) return;
  await sleep(4000);
  let kind = "";
  const alive = await answers(page, async () => { kind = await operate(first); });
  check(chapter, "after the page was loaded anew its widgets live", alive, kind);
}

async function exported(browser, chapter) {
  const context = await browser.newContext({ viewport: { width: 390, height: 844 } });
  const page = await context.newPage();
  const wanted = foreign(page);
  await context.setOffline(true);
  await page.goto(`file://${settings.out}/html/${chapter}.html`);
  await sleep(3000);
  await page.screenshot({ path: `${settings.out}/${chapter}-html.png` });
  const heard = await players(page);
  check(chapter, "exported: no empty player", !heard.empty, `${heard.all} players`);
  const text = await page.evaluate(() => [...document.querySelectorAll(".jp-OutputArea")].map((one) => one.innerText).join());
  check(chapter, "exported: no dead widget", !/Error displaying widget|VBox\(|HBox\(|Output\(\)/.test(text));
  const bare = await page.evaluate(() => [...document.querySelectorAll(".jp-OutputArea img, .output img")]
    .filter((one) => !one.alt || /^No description/.test(one.alt)).length);
  check(chapter, "exported: every picture has alt text", !bare, bare || "");
  check(chapter, "exported: nothing from the network", !wanted.length, wanted.join(" "));
  const raw = await page.evaluate(() => [...document.querySelectorAll(".jp-MarkdownOutput")]
    .map((one) => one.innerText.match(/\$[^$\n]*\\[a-z]+[^$\n]*\$/)).filter(Boolean).map((one) => one[0]));
  check(chapter, "exported: no formula left as its source", !raw.length, raw.join(" "));
  const wide = await page.evaluate(() => ({
    page: document.documentElement.scrollWidth - window.innerWidth,
    by: [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > window.innerWidth + 1)
      .map((one) => `${one.tagName}.${one.className} ${one.innerText || ""}`.slice(0, 60)).slice(0, 5),
  }));
  check(chapter, "exported: not wider than a telephone", wide.page <= 0, wide.page > 0 ? JSON.stringify(wide) : "");
  await cursor(page, `${chapter}, exported`);
  await context.close();
}

async function endKernels() { // each holds a gigabyte, and the next chapter wants it
  const headers = { Authorization: "token reader" };
  const kernels = await (await fetch(`${settings.address}/api/kernels`, { headers })).json();
  for (const { id } of kernels) await fetch(`${settings.address}/api/kernels/${id}`, { method: "DELETE", headers });
}

async function main() {
  const browser = await chromium.launch({
    executablePath: settings.browser,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
      "--disable-sync", "--no-first-run", "--autoplay-policy=no-user-gesture-required",
      "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
      `--use-file-for-fake-audio-capture=${settings.microphone}`],
  });
  await theCheckCanFail(browser);
  for (const chapter of settings.chapters) {
    const page = await browser.newPage({ viewport: { width: 1366, height: 768 } });
    const errors = [];
    page.on("console", (message) => { if (message.type() === "error" && !/^attachment:/.test(message.location().url)) errors.push(`${message.text()} ${message.location().url}`); });
    const wanted = foreign(page);
    page.on("pageerror", (error) => errors.push(String(error)));
    try {
      await open(page, chapter);
      await untrusted(page, chapter);
      await runAll(page, chapter);
      await page.screenshot({ path: `${settings.out}/${chapter}-run.png` });
      await faults(page, chapter);
      await cursor(page, chapter);
      await everyWidget(page, chapter);
      await uploads(page, chapter, { settings, check, until, answers });
      await record(page, chapter);
      await page.screenshot({ path: `${settings.out}/${chapter}-used.png` });
      await reload(page, chapter);
      await page.screenshot({ path: `${settings.out}/${chapter}-reloaded.png` });
      check(chapter, "no error on the console", !errors.length, errors.join(" | "));
      check(chapter, "nothing from the network", !wanted.length, wanted.join(" "));
      await exported(browser, chapter);
    } catch (error) {
      check(chapter, "driven to the end", false, error);
      await page.screenshot({ path: `${settings.out}/${chapter}-failed.png` }).catch(() => 0);
    }
    await page.close();
    await endKernels();
  }
  await browser.close();
  fs.writeFileSync(`${settings.out}/report.json`, JSON.stringify(report, null, 1));
  const failed = report.filter((one) => !one.good).length;
  console.log(`${report.length - failed} of ${report.length} checks passed.`);
  process.exit(failed ? 1 : 0);
}

main();
