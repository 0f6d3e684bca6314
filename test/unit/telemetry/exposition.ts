/**
 * A strict reader of Prometheus's text format 0.0.4 (prometheus.io, "Exposition formats"): it throws
 * at what a scraper might take or might not.
 */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly samples: {
    readonly name: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly value: number;
  }[];
}

const TYPES = ['counter', 'gauge', 'histogram', 'summary', 'untyped'];
const SUFFIXES: Readonly<Record<string, readonly string[]>> = {
  histogram: ['_bucket', '_sum', '_count'],
  summary: ['', '_sum', '_count'],
};
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/;

function labelsOf(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (let rest = text; rest !== '';) {
    const match = LABEL.exec(rest);
    const [all = '', name = '', value = ''] = match ?? [];
    if (match === null || name.startsWith('__') || name in labels)
      throw new Error(`labels ${text}`);
    labels[name] = value.replaceAll(/\\(.)/g, (_, char: string) => (char === 'n' ? '\n' : char));
    rest = rest.slice(all.length);
  }
  return labels;
}

function valueOf(text: string): number {
  if (/^[+-]?Inf$/.test(text)) return text.startsWith('-') ? -Infinity : Infinity;
  // Go's ParseFloat, which Prometheus uses, takes it in any case; prom-client writes Nan.
  if (/^nan$/i.test(text)) return Number.NaN;
  if (!/^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$/.test(text)) throw new Error(`value ${text}`);
  return Number(text);
}

export function parseExposition(text: string): ReadonlyMap<string, Family> {
  if (!text.endsWith('\n')) throw new Error('the last line does not end');
  const families = new Map<string, Family>();
  const seen = new Set<string>();
  let help: readonly [string, string] | undefined;
  let family: Family | undefined;
  for (const line of text.slice(0, -1).split('\n')) {
    if (line === '') continue;
    const comment = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/.exec(line);
    const [, kind, name = '', rest = ''] = comment ?? [];
    if (kind === 'HELP') {
      if (help !== undefined) throw new Error(`HELP without TYPE before ${line}`);
      help = [name, rest];
    } else if (kind === 'TYPE') {
      if (help?.[0] !== name || families.has(name) || !TYPES.includes(rest)) throw new Error(line);
      family = { name, help: help[1], type: rest, samples: [] };
      families.set(name, family);
      help = undefined;
    } else {
      const [all, sample = '', labels = '', value = ''] = SAMPLE.exec(line) ?? [];
      const suffixes = SUFFIXES[family?.type ?? ''] ?? [''];
      if (all === undefined || family === undefined || help !== undefined) throw new Error(line);
      const { name: base } = family;
      if (!suffixes.some((suffix) => sample === base + suffix)) throw new Error(line);
      const read = labelsOf(labels);
      const key = JSON.stringify([
        sample,
        Object.keys(read)
          .toSorted()
          .map((label) => [label, read[label]]),
      ]);
      if (seen.has(key)) throw new Error(`twice: ${line}`);
      seen.add(key);
      family.samples.push({ name: sample, labels: read, value: valueOf(value) });
    }
  }
  if (help !== undefined) throw new Error(`HELP ${help[0]} without TYPE`);
  return families;
}
