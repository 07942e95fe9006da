// Axes: where a value lies, and round numbers to write beside it.

function roundStep(span, count) {
  const rough = Math.max(span, 1e-12) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= rough * 0.999);
}

function linear(low, high, from, to, count) {
  const step = roundStep(high - low, count);
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) ticks.push(n * step);
  return { at: (value) => from + ((to - from) * (value - low)) / (high - low || 1), ticks };
}

function logarithmic(low, high, from, to, count) {
  const place = (value) => from + ((to - from) * Math.log(value / low)) / (Math.log(high / low) || 1);
  for (const steps of [[1, 1.5, 2, 3, 5, 7], [1, 2, 5], [1]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      for (const step of steps) {
        const value = step * 10 ** power;
        if (value >= low && value <= high) ticks.push(value);
      }
    }
    if (ticks.length <= count * 1.6 || steps.length === 1) return { at: place, ticks };
  }
  return { at: place, ticks: [] };
}

const tickText = (value) => String(Number(value.toPrecision(6)));
