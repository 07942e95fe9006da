// Tells what is on a picture with the network of this export:
//   npm install --ignore-scripts && node classify.mjs picture.png [more.jpg ...]
// On Linux x64 the scripts of onnxruntime-node would download libraries for CUDA, which are not used here.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import jpeg from "jpeg-js";
import * as ort from "onnxruntime-node";
import { PNG } from "pngjs";
import { asModelInput } from "./picture.mjs";
import { orientationOf, upright } from "./upright.mjs";

const folder = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
const pictures = process.argv.slice(2);
if (!pictures.length) fail("give at least one picture: node classify.mjs picture.png");
const { pixels } = manifest;
if (!pixels.file) fail(`this network takes no pictures as they are: ${pixels.left_out}`);

// Exact products also on x86-64 processors whose fast ones overflow.
const extra = manifest.precision === "int8" ? { session: { x64quantprecision: "1" } } : {};
const options = { intraOpNumThreads: manifest.threads, extra };

// These three lines are all it takes.
const session = await ort.InferenceSession.create(join(folder, pixels.file), options);
for (const picture of pictures) {
  const image = new ort.Tensor("uint8", readPicture(picture), pixels.shape);
  const { label, exit, confidence } = await session.run({ image }, ["label", "exit", "confidence"]);
  const name = manifest.classes[Number(label.data[0])];
  const sure = confidence.data[0].toFixed(4);
  console.log(`${picture}: ${name}, confidence ${sure}, left at exit ${exit.data[0]} of 0 to ${manifest.exits - 1}`);
}

function readPicture(picture) {
  try {
    const content = readFileSync(picture);
    const isJpeg = content[0] === 0xff && content[1] === 0xd8;
    const decoded = isJpeg ? jpeg.decode(content, { useTArray: true }) : PNG.sync.read(content);
    const { data, width, height } = upright(decoded, orientationOf(decoded.exifBuffer));
    return asModelInput(data, width, height, pixels);
  } catch (error) {
    return fail(`${picture} cannot be read as a PNG or JPEG picture: ${error.message}`);
  }
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
