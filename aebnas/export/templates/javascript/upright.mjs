// Turning photos as the camera was held. Used in Node; browsers do it themselves.

const ORIENTATION = 0x0112;

/**
 * Return how the camera was held, 1 (upright) to 8.
 *
 * @param {Uint8Array | undefined} exif as jpeg-js gives it: a byte of padding, then the EXIF block
 */
export function orientationOf(exif) {
  if (!exif) return 1;
  try {
    const view = new DataView(exif.buffer, exif.byteOffset + 1, exif.byteLength - 1);
    const little = view.getUint16(0) === 0x4949;
    const directory = view.getUint32(4, little);
    for (let entry = 0; entry < view.getUint16(directory, little); entry++) {
      const at = directory + 2 + 12 * entry;
      if (view.getUint16(at, little) === ORIENTATION) return view.getUint16(at + 8, little);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // the block is cut off
  }
  return 1;
}

/**
 * Return a picture, four bytes per pixel, turned upright.
 *
 * @param {{data: Uint8Array, width: number, height: number}} picture
 * @param {number} orientation as the camera noted it
 */
export function upright({ data, width, height }, orientation) {
  if (!(orientation >= 2 && orientation <= 8)) return { data, width, height };
  const [toWidth, toHeight] = orientation > 4 ? [height, width] : [width, height];
  const [right, bottom] = [width - 1, height - 1];
  // Where the pixel at (x, y) comes from.
  const from = {
    2: (x, y) => [right - x, y],
    3: (x, y) => [right - x, bottom - y],
    4: (x, y) => [x, bottom - y],
    5: (x, y) => [y, x],
    6: (x, y) => [y, bottom - x],
    7: (x, y) => [right - y, bottom - x],
    8: (x, y) => [right - y, x],
  }[orientation];
  const turned = new Uint8Array(data.length);
  for (let y = 0, to = 0; y < toHeight; y++) {
    for (let x = 0; x < toWidth; x++, to += 4) {
      const [column, row] = from(x, y);
      const at = 4 * (row * width + column);
      turned.set(data.subarray(at, at + 4), to);
    }
  }
  return { data: turned, width: toWidth, height: toHeight };
}
