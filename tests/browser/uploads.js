// What a reader brings to the upload fields of a chapter: the files of `inputs.py`, 40 MB, and a second choice.
const VISIBLE = ".jp-OutputArea .widget-upload:visible";
const MINUTE = 60 * 1000;

const facts = (page) => page.evaluate(() => [...document.querySelectorAll(".widget-html-content")]
  .map((one) => one.innerText).join("\n"));

async function choose(page, field, files) {
  await field.scrollIntoViewIfNeeded();
  const [chooser] = await Promise.all([page.waitForEvent("filechooser"), field.click()]);
  await chooser.setFiles(files);
  return chooser.isMultiple();
}

// what stands below the button: its own output, not the rest of the page
// `fresh`: all of it came after the last call with `mark`, also where it says the same again
const answer = (page, mark = false) => page.evaluate((mark) => {
  const button = [...document.querySelectorAll(".widget-upload")].pop();
  let box = button;
  while (box && !box.querySelector(".widget-output, .jupyter-widget-output-area, .jp-OutputArea")) box = box.parentElement;
  const area = box && [...box.querySelectorAll(".jp-OutputArea")].pop();
  const shown = area ? [...area.querySelectorAll(".jp-OutputArea-child")] : [];
  const fresh = shown.length > 0 && shown.every((one) => !one.dataset.seen);
  if (mark) shown.forEach((one) => { one.dataset.seen = "yes"; });
  return area ? { fresh, text: area.innerText, players: area.querySelectorAll("audio").length,
    heard: [...area.querySelectorAll("audio")].map((one) => one.src.slice(-200)).join(),
    red: area.querySelectorAll('[data-mime-type$="stderr"], [data-mime-type$="error"]').length } : null;
}, mark);

const said = (found) => (found ? `${found.text.slice(0, 200)}, ${found.players} players, ${found.red} red` : "nothing");

// Press the button; then its answer is a new one, and matches `words` (null: it has players).
async function worked(page, words, until, ms = 3 * MINUTE) {
  await answer(page, true);
  await page.locator(".jp-OutputArea .widget-button.mod-primary:visible").last().click();
  return until(async () => {
    const found = await answer(page);
    if (!found || found.red || !found.fresh) return null;
    return words === null ? found.players > 0 : new RegExp(words, "s").test(found.text);
  }, ms);
}

async function uploads(page, chapter, { settings, check, until, answers }) {
  const all = page.locator(VISIBLE);
  const total = await all.count();
  const count = Math.min(2, total), field = (k) => all.nth(total - count + k); // the last are worked on by a button
  if (!count) return;
  for (let k = 0; k < total - count; k++) { // those before them change what is heard by themselves
    const handle = page.locator(".jp-OutputArea .widget-slider:visible .noUi-handle").last(); // the level of the noise
    const sounds = () => page.evaluate(() => [...document.querySelectorAll(".jp-OutputArea .heard audio")].map((one) => one.src).join());
    await answers(page, async () => { await handle.focus(); await handle.press("End"); });
    const before = await sounds();
    await choose(page, all.nth(k), settings.good);
    check(chapter, "a noise of one's own is heard", await until(async () => (await sounds()) !== before, MINUTE));
  }
  const limit = page.getByText(/Files up to \d+ MB/).last();
  check(chapter, "the size limit is said beside the button", (await limit.count()) && (await limit.isVisible()));
  const says = (words, times, ms = MINUTE) => until(async () =>
    ((await facts(page)).match(new RegExp(words, "g")) || []).length >= times, ms);
  const several = await choose(page, field(0), settings.good);
  for (let k = 0; k < count; k++) await choose(page, field(k), settings.good);
  check(chapter, "a good file arrives", await says(/good\.wav, 0\.19 MB, 6\.0 s/.source, count), await facts(page));
  for (const one of settings.inputs) { // as the mixture; the enrollment stays good
    await answers(page, () => choose(page, field(0), `${settings.out}/${one.file}`));
    const named = await says(one.facts, 1);
    check(chapter, `${one.file}: said at once`, named, named ? "" : await facts(page));
    if (count < 2) continue; // what people, or whose clips, are in a buzz is another question
    const done = await worked(page, one.answer, until);
    check(chapter, `${one.file}: answered`, done, done ? "" : said(await answer(page)));
  }
  await choose(page, field(0), settings.large);
  check(chapter, "40 MB arrive", await says(/large\.wav, (39|40)\.\d+ MB, 208\.0 s/.source, 1), "");
  if (count > 1) check(chapter, "40 MB are worked on", await worked(page, null, until, 5 * MINUTE), said(await answer(page)));
  const two = [settings.good, `${settings.out}/song.mp3`];
  await choose(page, field(0), several ? two : two[1]); // with a file chosen before: the last one counts
  const last = several ? /good\.wav, .*; song\.mp3, / : /: song\.mp3, /;
  check(chapter, several ? "two files arrive" : "a second choice replaces the first", await says(last.source, 1), await facts(page));
  for (let k = 0; k < count; k++) await choose(page, field(k), settings.good);
  const good = await worked(page, count > 1 ? null : /\S/.source, until);
  check(chapter, "good files are worked on", good, good ? "" : said(await answer(page)));
}

module.exports = { uploads, worked };
