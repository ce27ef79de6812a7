// node pages.mjs CHROMIUM OUT < PAGES   our own pages as people see them: screenshots, and JSON of what is wrong
//
// Each page in daylight, in the dark, on paper, on a telephone, and by a browser without scripts, which has to see the
// same picture. A page that has folded parts is shown once more with all of them open.
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const [program, out] = process.argv.slice(2);
const pages = JSON.parse(readFileSync(0, 'utf8'));
const browser = await chromium.launch({
  executablePath: program, timeout: 240_000, args: ['--no-sandbox', '--disable-background-networking', '--no-first-run'],
});
const wide = { width: 1400, height: 1000 };
const looks = {
  light: { colorScheme: 'light', viewport: wide },
  'no-script': { colorScheme: 'light', viewport: wide, javaScriptEnabled: false },
  dark: { colorScheme: 'dark', viewport: wide },
  print: { colorScheme: 'light', viewport: { width: 794, height: 1123 } }, // A4 at 96 dots an inch
  narrow: { colorScheme: 'light', viewport: { width: 412, height: 900 } },
};

async function look({ name, url }, as, options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(120_000);
  const wrong = [];
  const icon = (url) => url.endsWith('/favicon.ico'); // browsers ask for one, and there is none
  page.on('console', (one) => one.type() === 'error' && !icon(one.location().url) && wrong.push(one.text()));
  page.on('requestfailed', (request) => wrong.push(`${request.url()} failed`));
  page.on('response', (answer) => answer.status() >= 400 && !icon(answer.url()) && wrong.push(`${answer.url()} answers ${answer.status()}`));
  await page.goto(url);
  if (as === 'print') await page.emulateMedia({ media: 'print' });
  const shot = async (suffix) => {
    for (const image of await page.locator('img:not(details:not([open]) img)').all()) await image.scrollIntoViewIfNeeded(); // they are lazy
    await page.waitForFunction(() => [...document.images].every((one) => one.closest('details:not([open])') || one.complete));
    await page.waitForLoadState('networkidle');
    await page.screenshot({ path: `${out}/${name}-${suffix}.png`, fullPage: true });
  };
  await shot(as);
  const { across, width, blank } = await page.evaluate(() => ({
    across: document.documentElement.scrollWidth, width: document.documentElement.clientWidth,
    blank: [...document.images].filter((one) => one.checkVisibility() && !one.naturalWidth).map((one) => one.src),
  }));
  if (across > width) wrong.push(`is ${across} wide in a window of ${width}`);
  wrong.push(...blank.map((src) => `${src} is not shown`));
  if (as === 'light' && await page.locator('summary').count()) {
    await page.evaluate(() => document.querySelectorAll('details').forEach((one) => { one.open = true; }));
    await shot('open');
  }
  const text = await page.locator('body').innerText();
  await context.close();
  return { name, as, text, wrong };
}

const seen = [];
for (const page of pages) {
  for (const [as, options] of Object.entries(looks)) seen.push(await look(page, as, options));
}
await browser.close();
process.stdout.write(JSON.stringify(seen, null, 1));
