// node look.mjs BASE OUT NAME=STUDY_UID...   what OHIF makes of each study: screenshots, and JSON on standard output
//
// For each study: what it opens on before anybody clicks; the Secondary Capture; and, once the SR's measurements are
// taken over, the image that the viewer jumps to for each of them. Everything waits for what it needs to see: with
// pictures drawn in software a series takes tens of seconds to appear.
import { chromium } from 'playwright-core';

const [base, out, ...studies] = process.argv.slice(2);
const patience = { timeout: 240_000, polling: 500 };
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  timeout: patience.timeout,
  args: [
    '--no-sandbox', '--use-angle=swiftshader', '--disable-gpu-sandbox', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--no-first-run',
  ],
});

// What stands in the viewport that has the focus, as the viewer itself says; null until a picture is there.
const shown = () => {
  const { viewportGridService, displaySetService, cornerstoneViewportService } = window.services;
  const { activeViewportId, viewports } = viewportGridService.getState();
  const [uid] = viewports.get(activeViewportId)?.displaySetInstanceUIDs ?? [];
  const set = uid && displaySetService.getDisplaySetByUID(uid);
  const viewport = cornerstoneViewportService.getCornerstoneViewport(activeViewportId);
  const image = viewport?.getImageData?.() && viewport.getCurrentImageId?.();
  return set && image ? { modality: set.Modality, series: set.SeriesInstanceUID, image } : null;
};

async function look(name, uid) {
  const page = await browser.newPage({ viewport: { width: 1500, height: 900 } });
  page.setDefaultTimeout(patience.timeout);
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  const shot = async (what) => {
    await page.waitForTimeout(2000); // a picture is drawn a moment after its data are there
    await page.screenshot({ path: `${out}/${name}-${what}.png`, ...patience });
  };

  await page.goto(`${base}/viewer?StudyInstanceUIDs=${uid}`);
  await page.getByText('Skip all').click();
  await page.getByText('Confirm and hide').click();
  await page.waitForFunction(shown, null, patience);
  const found = { name, opened: await page.evaluate(shown), capture: null, measurements: [], jumps: [], errors };
  await shot('opens');

  const capture = page.locator('[data-cy="study-browser-thumbnail"]').filter({ hasText: 'CAUDA' }).last();
  await capture.dblclick();
  await page.waitForFunction(`(${shown})()?.modality === 'OT'`, null, patience);
  found.capture = await page.evaluate(shown);
  await shot('capture');

  const report = page.locator('[data-cy="study-browser-thumbnail-no-image"]').filter({ hasText: 'CAUDA' }).last();
  if (await report.count()) { // a study that was not analysed gets none
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
      await page.getByRole('button', { name: 'Yes', exact: true }).click();
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
      await shot('measurement');
    } else {
      await shot('report');
    }
  }
  await page.close();
  return found;
}

const seen = [];
for (const study of studies) {
  const [name, uid] = study.split('=');
  seen.push(await look(name, uid));
  process.stderr.write(`looked at ${name}\n`);
}
await browser.close();
process.stdout.write(JSON.stringify(seen, null, 1));
