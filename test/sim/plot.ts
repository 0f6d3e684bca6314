// Small line plots as SVG: no library, the same bytes for the same numbers.

export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface Plot {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly series: readonly Series[];
}

const WIDTH = 640;
const HEIGHT = 360;
const MARGIN = { left: 64, right: 150, top: 32, bottom: 44 };
const COLOURS = ['#1b6ca8', '#c1440e', '#3a7d44', '#7b4fa3'];

export function svg({ title, x, y, series }: Plot): string {
  const points = series.flatMap((s) => s.points);
  const xs = range(points.map(([px]) => px));
  const ys = range([0, ...points.map(([, py]) => py)]);
  const left = (value: number): number =>
    MARGIN.left + ((value - xs.min) / (xs.max - xs.min)) * (WIDTH - MARGIN.left - MARGIN.right);
  const top = (value: number): number =>
    HEIGHT -
    MARGIN.bottom -
    ((value - ys.min) / (ys.max - ys.min)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="11">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    `<text x="${MARGIN.left}" y="18" font-size="13">${escape(title)}</text>`,
    `<text x="${(MARGIN.left + WIDTH - MARGIN.right) / 2}" y="${HEIGHT - 8}" text-anchor="middle">${escape(x)}</text>`,
    `<text x="14" y="${HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 14 ${HEIGHT / 2})">${escape(y)}</text>`,
  ];
  for (let i = 0; i <= 4; i++) {
    const vx = xs.min + ((xs.max - xs.min) * i) / 4;
    const vy = ys.min + ((ys.max - ys.min) * i) / 4;
    const [px, py] = [left(vx).toFixed(1), top(vy).toFixed(1)];
    parts.push(
      `<path d="M${MARGIN.left} ${py}H${WIDTH - MARGIN.right}" stroke="#ddd"/>`,
      `<text x="${MARGIN.left - 6}" y="${Number(py) + 4}" text-anchor="end">${label(vy)}</text>`,
      `<text x="${px}" y="${HEIGHT - MARGIN.bottom + 16}" text-anchor="middle">${label(vx)}</text>`,
    );
  }
  for (const [i, { name, points: own }] of series.entries()) {
    const colour = COLOURS[i % COLOURS.length];
    const line = own.map(([px, py]) => `${left(px).toFixed(1)},${top(py).toFixed(1)}`).join(' ');
    parts.push(
      `<polyline points="${line}" fill="none" stroke="${colour}" stroke-width="1.8"/>`,
      `<text x="${WIDTH - MARGIN.right + 8}" y="${MARGIN.top + 16 * (i + 1)}" fill="${colour}">${escape(name)}</text>`,
    );
  }
  return `${parts.join('\n')}\n</svg>\n`;
}

function range(values: readonly number[]): { min: number; max: number } {
  const min = values.reduce((a, b) => Math.min(a, b), Infinity);
  const max = values.reduce((a, b) => Math.max(a, b), -Infinity);
  return max > min ? { min, max } : { min, max: min + 1 };
}

function label(value: number): string {
  return Math.abs(value) >= 1000 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
