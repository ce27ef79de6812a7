// node look.mjs CHROMIUM OHIF ORTHANC OUT < STUDIES   what viewers make of each study: screenshots, and JSON
//
// For each study: what OHIF opens on before anybody clicks; the Secondary Capture; and, once the SR's measurements are
// taken over, the image that it jumps to for each of them; then the study and a series of each modality in Orthanc's
// own pages and viewer. Everything waits for what it needs to see: pictures are drawn in software.
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const [program, base, orthanc, out] = process.argv.slice(2);
const studies = JSON.parse(readFileSync(0, 'utf8'));
const usual = { width: 1500, height: 900 };
const windows = [[1280, 800], [1920, 1080]]; // in which the page is looked at as well
const ways = ['basic?', 'segmentation?', 'viewer?hangingprotocolid=@ohif/mnGrid&']; // other modes, another hanging protocol
const patience = { timeout: 240_000, polling: 500 };
const browser = await chromium.launch({
  executablePath: program,
  timeout: patience.timeout,
  args: [
    '--no-sandbox', '--use-angle=swiftshader', '--disable-gpu-sandbox', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--no-first-run',
  ],
});

// What stands in the viewport that has the focus, as the viewer itself says; null until a picture is there.
const shown = () => {
  if (!window.services) return null;
  const { viewportGridService, displaySetService, cornerstoneViewportService } = window.services;
  const { activeViewportId, viewports } = viewportGridService.getState();
  const [uid] = viewports.get(activeViewportId)?.displaySetInstanceUIDs ?? [];
  const set = uid && displaySetService.getDisplaySetByUID(uid);
  const viewport = cornerstoneViewportService.getCornerstoneViewport(activeViewportId);
  const image = viewport?.getImageData?.() && viewport.getCurrentImageId?.();
  return set && image ? { modality: set.Modality, series: set.SeriesInstanceUID, image } : null;
};

// The newest series of ours of a modality, by what OHIF knows of it; null where there is none.
const newest = (modality) =>
  window.services.displaySetService.getActiveDisplaySets()
    .filter((set) => set.Modality === modality && set.SeriesDescription?.includes('CAUDA'))
    .sort((a, b) => `${a.SeriesDate}${a.SeriesTime}`.localeCompare(`${b.SeriesDate}${b.SeriesTime}`))
    .at(-1)?.displaySetInstanceUID ?? null;

// What the viewer lays over the image in the focused viewport, its film-loop control and its words: for each the left,
// top, right and bottom in the image's pixels. The control is what holds the button that plays, and the one that closes.
const laid = () => {
  const { viewportGridService, cornerstoneViewportService } = window.services;
  const viewport = cornerstoneViewportService.getCornerstoneViewport(viewportGridService.getState().activeViewportId);
  const { imageData } = viewport.getImageData();
  const canvas = viewport.canvas.getBoundingClientRect();
  const [columns] = imageData.getDimensions();
  const [left, top] = viewport.worldToCanvas(imageData.indexToWorld([-0.5, -0.5, 0]));
  const [right] = viewport.worldToCanvas(imageData.indexToWorld([columns - 0.5, -0.5, 0]));
  const zoom = (right - left) / columns;
  const x = (at) => (at - canvas.left - left) / zoom;
  const y = (at) => (at - canvas.top - top) / zoom;
  const found = [];
  const add = (what, box) => {
    const over = box.right > canvas.left && box.left < canvas.right && box.bottom > canvas.top && box.top < canvas.bottom;
    if (over && box.width) found.push({ what, box: [x(box.left), y(box.top), x(box.right), y(box.bottom)] });
  };
  let control = document.querySelector('[data-cy="cine-player-play-pause"]');
  while (control && control.querySelectorAll('svg').length < 4) control = control.parentElement;
  if (control) add('film-loop control', control.getBoundingClientRect());
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (texts.nextNode()) {
    const { textContent, parentElement } = texts.currentNode;
    if (!textContent.trim() || control?.contains(parentElement)) continue;
    if (!parentElement.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    range.selectNodeContents(texts.currentNode);
    add(textContent, range.getBoundingClientRect());
  }
  return found;
};

async function look({ name, uid, series }) {
  const page = await browser.newPage({ viewport: usual });
  page.setDefaultTimeout(patience.timeout);
  const errors = [];
  page.on('pageerror', (error) => page.url().startsWith(base) && errors.push(String(error)));
  const shot = async (what) => {
    await page.waitForTimeout(2000); // a picture is drawn a moment after its data are there
    await page.screenshot({ path: `${out}/${name}-${what}.png`, ...patience });
  };

  await page.goto(`${base}/viewer?StudyInstanceUIDs=${uid}`);
  await page.getByText('Skip all').click();
  await page.getByText('Confirm and hide').click();
  await page.waitForFunction(shown, null, patience);
  const found = { name, opened: await page.evaluate(shown), capture: null, laid: [], ways: [], measurements: [], jumps: [], errors };
  await shot('opens');

  const thumbnail = async (modality) => {
    const set = await page.evaluate(newest, modality);
    return set && page.locator(`[id="thumbnail-${set}"]`);
  };
  await (await thumbnail('OT')).dblclick();
  await page.waitForFunction(`(${shown})()?.modality === 'OT'`, null, patience);
  found.capture = await page.evaluate(shown);
  await shot('capture');
  for (const [width, height] of windows) {
    await page.setViewportSize({ width, height });
    await shot(`capture-${width}`); // it comes after the viewer has drawn anew
    found.laid.push({ width, height, over: await page.evaluate(laid) });
  }
  await page.setViewportSize(usual);

  const report = await thumbnail('SR');
  if (report) { // a study that was not analysed gets none
    await report.dblclick();
    await page.waitForFunction(
      () => window.services.displaySetService.getActiveDisplaySets().some((set) => set.Modality === 'SR' && set.isLoaded),
      null, patience,
    );
    const regions = await page.evaluate(
      () => window.services.displaySetService.getActiveDisplaySets()
        .filter((set) => set.Modality === 'SR' && set.isLoaded)
        .flatMap((set) => set.measurements.filter((one) => one.coords?.length)).length,
    );
    if (regions) {
      const yes = page.locator('[data-cy="yes-hydrate-btn"]');
      await yes.waitFor();
      await shot('report');
      await yes.click();
      await page.waitForFunction(() => window.services.measurementService.getMeasurements().length, null, patience);
      found.measurements = await page.evaluate(() =>
        window.services.measurementService.getMeasurements().map((one) => ({
          uid: one.uid, label: one.label, sop: one.SOPInstanceUID, tool: one.toolName,
        })),
      );
      for (const one of found.measurements) {
        await page.evaluate((id) => {
          const { measurementService, viewportGridService } = window.services;
          measurementService.jumpToMeasurement(viewportGridService.getActiveViewportId(), id);
        }, one.uid);
        const there = await page
          .waitForFunction(`(${shown})()?.image.includes(${JSON.stringify(`/${one.sop}/`)})`, null, { timeout: 60_000, polling: 500 })
          .then(() => true, () => false);
        found.jumps.push({ label: one.label, wanted: one.sop, there, image: (await page.evaluate(shown))?.image });
      }
      await page.locator('[data-cy="trackedMeasurements-btn"]').click(); // the list of them
      await shot('measurement');
    } else {
      await shot('report');
    }
  }
  for (const way of name === 'revised' ? ways : []) { // it has most series of ours
    await page.goto(`${base}/${way}StudyInstanceUIDs=${uid}`);
    await page.waitForFunction(shown, null, patience);
    found.ways.push({ way, ...(await page.evaluate(shown)) });
    await shot(`opens-${way.replace(/\W+/g, '-')}`);
  }
  for (const [modality, id] of Object.entries(series)) {
    await page.goto(`${orthanc}/web-viewer/app/viewer.html?series=${id}`);
    await page.waitForLoadState('networkidle');
    await shot(`orthanc-${modality}`);
  }
  await page.close();
  return found;
}

const seen = [];
for (const study of studies) {
  seen.push(await look(study));
  process.stderr.write(`looked at ${study.name}\n`);
}
await browser.close();
process.stdout.write(JSON.stringify(seen, null, 1));
