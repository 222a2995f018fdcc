// Looks at the agent's pages in a real browser, for tests/tests/pages.rs: node look.cjs PLAYWRIGHT CHROMIUM URL FOLDER.
// Says "looking" when the live page shows the agent, then waits for a kill to appear by itself, opens its report, and
// looks at it in several ways. What is wrong it says on stderr, and ends with 1.
"use strict";
const [playwright, executablePath, url, folder] = process.argv.slice(2);
const { chromium } = require(playwright);

const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const ways = [
  { name: "desktop", viewport: { width: 1280, height: 900 } },
  { name: "phone", viewport: { width: 360, height: 740 } },
  { name: "dark", viewport: { width: 1280, height: 900 }, colorScheme: "dark" },
  { name: "print", viewport: { width: 794, height: 1123 }, media: "print" },
];

const ensure = (truth, what) => {
  if (!truth) throw new Error(what);
};

// Text of the same drawing that lies over other text.
const overlaps = () => {
  const found = [];
  for (const svg of document.querySelectorAll("figure svg")) {
    const boxes = [...svg.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
    boxes.forEach(([one, a], number) => {
      for (const [other, b] of boxes.slice(number + 1)) {
        if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1) found.push(`${one} / ${other}`);
      }
    });
  }
  return found;
};

const contrast = () => {
  const rgb = (text) => text.match(/\d+(\.\d+)?/g).slice(0, 3).map(Number);
  const light = (colour) => {
    const [r, g, b] = rgb(colour).map((part) => {
      const share = part / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const style = getComputedStyle(document.body);
  const [one, other] = [light(style.color), light(style.backgroundColor)].sort((a, b) => b - a);
  return (one + 0.05) / (other + 0.05);
};

const watched = async (browser, options, complaints) => {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) complaints.push("asks " + request.url());
  });
  page.on("dialog", (dialog) => {
    complaints.push("a script of a name ran: " + dialog.message());
    dialog.dismiss();
  });
  return page;
};

const live = async (browser, complaints) => {
  const page = await watched(browser, { viewport: { width: 1280, height: 900 } }, complaints);
  await page.goto(url + "/");
  await page.waitForFunction(() => document.getElementById("state").textContent.startsWith("Protects"), null, { timeout: 20000 });
  await page.waitForSelector("#domains tbody tr meter");
  await page.waitForSelector("#chart canvas");
  await page.evaluate(() => { window.sameDocument = true; });
  console.log("looking");
  await page.waitForSelector("#kills li a", { timeout: 60000 });
  ensure(await page.evaluate(() => window.sameDocument === true), "the page was loaded again");
  const text = await page.textContent("#kills li");
  ensure(text.includes("killed") && text.includes("<script>alert(1)</script>"), "the kill is not told as text: " + text);
  // By keyboard alone: to the filter, which keeps only what has its text.
  await page.focus("#filter");
  await page.keyboard.type("no such worker");
  ensure(await page.evaluate(() => document.querySelectorAll("#workers tbody tr").length === 0), "the filter keeps what it should not");
  await page.screenshot({ path: `${folder}/live.png`, fullPage: true });
  const href = await page.getAttribute("#kills li a", "href");
  for (const way of ways.slice(1, 3)) {
    const other = await watched(browser, { viewport: way.viewport, colorScheme: way.colorScheme || "light" }, complaints);
    await other.goto(url + "/");
    await other.waitForSelector("#kills li a");
    const wide = await other.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    ensure(wide <= 0, `the live page is ${wide} px too wide (${way.name})`);
    ensure(await other.evaluate(contrast) >= 7, `too little contrast (${way.name})`);
    await other.screenshot({ path: `${folder}/live-${way.name}.png`, fullPage: true });
    await other.context().close();
  }
  return href;
};

const report = async (browser, href, complaints) => {
  for (const way of ways) {
    const page = await watched(browser, { viewport: way.viewport, colorScheme: way.colorScheme || "light" }, complaints);
    await page.goto(url + href);
    if (way.media) await page.emulateMedia({ media: way.media });
    const text = await page.textContent("body");
    for (const part of ["Threshold crossed", "Signal sent", "Processes dead", "Ranking", "What to do", "The whole report", "<script>alert(1)</script>"]) {
      ensure(text.includes(part), `${part} is not on the page (${way.name})`);
    }
    ensure(await page.evaluate(() => document.querySelectorAll("script").length === 0), "the report has a script");
    ensure(await page.evaluate(() => document.querySelectorAll("figure svg path.used").length === 2), "no chart");
    ensure(await page.evaluate(() => document.querySelectorAll("figure svg circle.number").length >= 3), "no marks");
    const over = await page.evaluate(overlaps);
    ensure(over.length === 0, `text over text (${way.name}): ${over.join("; ")}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    ensure(wide <= 0, `the report is ${wide} px too wide (${way.name})`);
    ensure(await page.evaluate(contrast) >= 7, `too little contrast (${way.name})`);
    await page.screenshot({ path: `${folder}/report-${way.name}.png`, fullPage: true });
    await page.context().close();
  }
};

(async () => {
  const browser = await chromium.launch({ executablePath, args, headless: true });
  const complaints = [];
  try {
    const href = await live(browser, complaints);
    await report(browser, href, complaints);
    ensure(complaints.length === 0, "the browser says: " + complaints.join("; "));
  } finally {
    await browser.close();
  }
})().catch((error) => {
  console.error(error.message || error);
  process.exitCode = 1;
});
