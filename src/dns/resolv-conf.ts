/**
 * resolv.conf(5) and other files of lines that hold ours beside those of others: what they say, our
 * lines put in and taken out. What others wrote is never changed, but for `rotate`, which is set
 * aside: it would ask others for our names each other time.
 */

const BEGIN = '# zerohop: begin';
const END = '# zerohop: end';
const ASIDE = '# zerohop: set aside: ';

/** glibc looks at no more (resolv.h, MAXNS); musl too. */
export const NAMESERVERS_MAX = 3;

export interface ResolvConf {
  readonly nameservers: readonly string[];
  readonly options: readonly string[];
}

/** As glibc reads it: a keyword at the beginning of its line. */
export function readResolvConf(text: string): ResolvConf {
  const nameservers: string[] = [];
  const options: string[] = [];
  for (const line of text.split('\n')) {
    const [keyword, ...words] = line.split(/[ \t]+/);
    if (keyword === 'nameserver' && words[0] !== undefined && words[0] !== '')
      nameservers.push(words[0]);
    if (keyword === 'options') options.push(...words.filter((word) => word !== ''));
  }
  return { nameservers, options };
}

export interface OwnLines {
  readonly lines: readonly string[];
  /** One word that finds out, when they are taken out, whether the rest was changed since. */
  readonly mark: string;
  readonly at: 'begin' | 'end';
}

/** What others wrote, with these lines. */
export function withOwnLines(rest: string, { lines, mark, at }: OwnLines): string {
  const head = `${BEGIN} ${mark} (\`zerohop dns uninstall\` removes these lines)`;
  const block = `${[head, ...lines, END].join('\n')}\n`;
  if (at === 'begin') return block + rest;
  return rest === '' || rest.endsWith('\n') ? rest + block : `${rest}\n${block}`;
}

/** What others wrote, and our mark; undefined: there is nothing of ours. */
export function withoutOwnLines(text: string): { rest: string; mark: string | undefined } {
  const kept: string[] = [];
  let mark: string | undefined;
  let isOurs = false;
  for (const line of text.split('\n')) {
    if (line.startsWith(BEGIN)) {
      isOurs = true;
      mark = line.slice(BEGIN.length).trim().split(' ')[0] ?? '';
    } else if (line === END) isOurs = false;
    else if (line.startsWith(ASIDE)) kept.push(line.slice(ASIDE.length));
    else if (!isOurs) kept.push(line);
  }
  return { rest: kept.join('\n'), mark };
}

/** Our server first and the others after it, so that they answer where ours does not. */
export function pointedAtUs(
  text: string,
  { address, mark }: { address: string; mark: string },
): string {
  const { rest } = withoutOwnLines(text);
  const isRotating = (line: string): boolean =>
    readResolvConf(line).options.some((option) => option === 'rotate');
  const aside = rest.split('\n').map((line) => (isRotating(line) ? `${ASIDE}${line}` : line));
  const still = rest
    .split('\n')
    .filter(isRotating)
    .flatMap((line) => readResolvConf(line).options.filter((option) => option !== 'rotate'));
  const lines = [
    `nameserver ${address}`,
    // A name server that is gone refuses at once; one that hangs costs a second, and is asked twice.
    `options ${['timeout:1', 'attempts:2', ...still].join(' ')}`,
  ];
  return withOwnLines(aside.join('\n'), { lines, mark, at: 'begin' });
}
