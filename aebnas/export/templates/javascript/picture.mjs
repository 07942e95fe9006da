// Pixels of a picture as the network takes them. Used in Node and in the browser.

/**
 * Return a picture as uint8 (1, H, W, C): grey where the network takes one channel, resized as the data set's images
 * were (the filters are those of Pillow), from 0 to its white.
 *
 * @param {Uint8Array | Uint8ClampedArray} rgba four bytes per pixel, row by row; alpha is left away
 * @param {number} width of the picture
 * @param {number} height of the picture
 * @param {object} pixels what manifest.json says under "pixels"
 */
export function asModelInput(rgba, width, height, pixels) {
  const channels = pixels.shape[3];
  if (channels !== 1 && channels !== 3) {
    throw new Error(`this network takes ${channels} channels, which no picture file has: give it an array`);
  }
  const { values } = fitted({ values: plain(rgba, channels), width, height, channels }, pixels);
  return pixels.white === 255 ? values : values.map((value) => Math.round((value * pixels.white) / 255));
}

function plain(rgba, channels) {
  const values = new Uint8Array((rgba.length / 4) * channels);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    const [red, green, blue] = [rgba[from], rgba[from + 1], rgba[from + 2]];
    if (channels === 1) {
      values[to++] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    } else {
      values[to++] = red;
      values[to++] = green;
      values[to++] = blue;
    }
  }
  return values;
}

// Bring a picture to the network's size: stretch it, keep its centre, or put black borders around it.
function fitted(picture, { shape: [, height, width], resize, interpolation, crop }) {
  const { width: fromWidth, height: fromHeight } = picture;
  if (resize === "stretch") return resized(picture, width, height, interpolation);
  if (resize === "pad") {
    const scale = Math.min(height / fromHeight, width / fromWidth);
    const side = (from) => Math.max(1, toEven(from * scale));
    const inner = resized(picture, side(fromWidth), side(fromHeight), interpolation);
    return placed(inner, width, height, Math.floor((width - inner.width) / 2), Math.floor((height - inner.height) / 2));
  }
  const scale = Math.max(toEven(height / crop) / fromHeight, toEven(width / crop) / fromWidth);
  const side = (from, least) => Math.max(least, Math.floor(from * scale + 1e-6));
  const whole = resized(picture, side(fromWidth, width), side(fromHeight, height), interpolation);
  return placed(whole, width, height, -toEven((whole.width - width) / 2), -toEven((whole.height - height) / 2));
}

// Halves go to the even neighbour, as Python rounds.
function toEven(value) {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + (below % 2) : Math.round(value);
}

function placed(picture, width, height, left, top) {
  const { channels } = picture;
  const values = new Uint8Array(width * height * channels);
  for (let row = Math.max(0, top); row < Math.min(height, top + picture.height); row++) {
    const [first, last] = [Math.max(0, left), Math.min(width, left + picture.width)];
    const start = ((row - top) * picture.width + first - left) * channels;
    const line = picture.values.subarray(start, start + (last - first) * channels);
    values.set(line, (row * width + first) * channels);
  }
  return { values, width, height, channels };
}

function resized({ values, width, height, channels }, toWidth, toHeight, interpolation) {
  const narrow = resizeAxis(values, width, toWidth, channels, height, interpolation);
  const small = resizeAxis(narrow, height, toHeight, toWidth * channels, 1, interpolation);
  return { values: small, width: toWidth, height: toHeight, channels };
}

// Resize an axis of `from` steps, `step` bytes each, to `to` steps; there are `rows` such series one after the other.
function resizeAxis(source, from, to, step, rows, interpolation) {
  if (from === to) return source;
  const target = new Uint8Array(rows * to * step);
  for (let position = 0; position < to; position++) {
    const { first, weights } = taps(from, to, position, interpolation);
    for (let row = 0; row < rows; row++) {
      for (let byte = 0; byte < step; byte++) {
        let sum = 2 ** 21;
        for (let tap = 0; tap < weights.length; tap++) {
          sum += weights[tap] * source[(row * from + first + tap) * step + byte];
        }
        const value = Math.floor(sum / 2 ** 22);
        target[(row * to + position) * step + byte] = Math.max(0, Math.min(255, value));
      }
    }
  }
  return target;
}

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const FILTERS = {
  bilinear: { reach: 1, weight: (x) => 1 - x },
  bicubic: { reach: 2, weight: (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : ((-0.5 * x + 2.5) * x - 4) * x + 2) },
  lanczos: { reach: 3, weight: (x) => sinc(x) * sinc(x / 3) },
};

// Which of `from` values make number `position` of `to` new ones, with weights that add up to 2 ** 22.
function taps(from, to, position, interpolation) {
  const scale = from / to;
  if (interpolation === "nearest") {
    // Step by step, as Pillow does: where a step ends between two values, the last digit decides.
    let at = scale * 0.5;
    for (let step = 0; step < position; step++) at += scale;
    return { first: Math.floor(at), weights: [2 ** 22] };
  }
  const centre = (position + 0.5) * scale;
  const { reach, weight } = FILTERS[interpolation];
  // Where a picture becomes smaller, the filter becomes wider: pixels are averaged.
  const stretch = Math.max(scale, 1);
  const first = Math.max(0, Math.floor(centre - reach * stretch + 0.5));
  const last = Math.min(from, Math.floor(centre + reach * stretch + 0.5));
  const weights = [];
  for (let at = first; at < last; at++) {
    const x = Math.abs(at - centre + 0.5) / stretch;
    weights.push(x < reach ? weight(x) : 0);
  }
  const total = weights.reduce((sum, one) => sum + one, 0);
  return { first, weights: weights.map((one) => Math.round((one / total) * 2 ** 22)) };
}
