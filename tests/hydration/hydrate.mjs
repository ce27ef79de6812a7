// node hydrate.mjs SR.dcm IMAGE.dcm...  prints the measurements that a Cornerstone viewer would make of the SR.
//
// OHIF hands the naturalised SR to the same adapter; each tool state below becomes a measurement that jumps
// to its slice. The images give the geometry that the viewer would have.
import { readFileSync } from 'node:fs';
import dcmjs from 'dcmjs';
import { adaptersSR } from '@cornerstonejs/adapters';
import { metaData } from '@cornerstonejs/core';

dcmjs.log.setLevel?.('error');
console.warn = console.info = console.debug = console.error = () => {}; // groups without a region are said aloud

const read = (path) => {
  const bytes = readFileSync(path);
  const file = dcmjs.data.DicomMessage.readFile(
    bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength),
  );
  return dcmjs.data.DicomMetaDictionary.naturalizeDataset(file.dict);
};

const [srPath, ...imagePaths] = process.argv.slice(2);
const images = imagePaths.map(read);
const imageIds = {};
const planes = {};
for (const image of images) {
  const id = `test:${image.SOPInstanceUID}`;
  imageIds[`${image.SOPInstanceUID}:1`] = id;
  const [rowSpacing, columnSpacing] = image.PixelSpacing;
  planes[id] = {
    frameOfReferenceUID: image.FrameOfReferenceUID,
    rows: image.Rows,
    columns: image.Columns,
    imageOrientationPatient: image.ImageOrientationPatient,
    rowCosines: image.ImageOrientationPatient.slice(0, 3),
    columnCosines: image.ImageOrientationPatient.slice(3, 6),
    imagePositionPatient: image.ImagePositionPatient,
    pixelSpacing: [rowSpacing, columnSpacing],
    rowPixelSpacing: rowSpacing,
    columnPixelSpacing: columnSpacing,
  };
}
const provider = (type, id) => (type === 'imagePlaneModule' ? planes[id] : undefined);
metaData.addProvider(provider, 1);

let result;
try {
  const states = adaptersSR.Cornerstone3D.MeasurementReport.generateToolState(read(srPath), imageIds, { get: provider });
  result = Object.entries(states).flatMap(([tool, found]) =>
    found.map((state) => ({
      tool,
      image: state.sopInstanceUid,
      label: state.annotation.data.label,
      trackingUid: state.TrackingUniqueIdentifier,
      tracking: state.TrackingIdentifier,
      finding: state.finding?.CodeMeaning,
      points: state.annotation.data.handles?.points ?? state.annotation.data.contour?.polyline,
    })),
  );
} catch (error) {
  result = { error: String(error) };
}
process.stdout.write(JSON.stringify(result));
process.exit(0);
