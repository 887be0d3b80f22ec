// Drives one Chromium: a line of JSON on standard input is a script and its values, a line on standard
// output what it gave. The script has `page`, `context`, `browser`, `values` and `seen`: what the pages
// have logged, which scripts failed, which dialogs they opened, and what their policy has refused.
"use strict";
const fs = require("node:fs");
const readline = require("node:readline");
const { chromium } = require("playwright-core");

const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const seen = { errors: [], dialogs: [], refused: [], elsewhere: [] };
const AsyncFunction = (async () => {}).constructor;

function watch(page, base) {
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error") seen.errors.push(message.text());
    if (/Content Security Policy/.test(message.text())) seen.refused.push(message.text());
  });
  page.on("dialog", (dialog) => { seen.dialogs.push(dialog.message()); dialog.accept(); });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(base) && !url.startsWith("data:")) seen.elsewhere.push(url);
  });
}

async function violations(page, rules) {
  await page.evaluate(axe);
  return page.evaluate(async (only) => {
    const found = await axe.run(document, only ? { runOnly: { type: "rule", values: only } } : {});
    return found.violations.map((each) =>
      `${each.impact} ${each.id}: ${each.nodes.map((node) => node.html).slice(0, 3).join(" ")}`);
  }, rules);
}

(async () => {
  const [executablePath, base] = process.argv.slice(2);
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  async function open(options) {
    const context = await browser.newContext({
      baseURL: base, locale: "en-GB", timezoneId: "Europe/Rome",
      viewport: { width: 1280, height: 900 }, ...options,
    });
    const page = await context.newPage();
    page.setDefaultTimeout(20000);
    watch(page, base);
    return { context, page };
  }
  let { context, page } = await open({});
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { script, values } = JSON.parse(line);
    let answer;
    try {
      const run = new AsyncFunction(
        "page", "context", "browser", "values", "seen", "open", "violations", script);
      answer = { value: await run(page, context, browser, values, seen, open, violations) };
    } catch (error) {
      answer = { error: String(error.stack || error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  await browser.close();
})();
