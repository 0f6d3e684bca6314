/**
 * resolv.conf(5) and other files of lines that hold ours beside those of others: what they say, our
 * lines put in and taken out. What others wrote is never changed, but for `rotate`, which is set
 * aside: it would ask others for our names each other time.
 */
import { canonicalIp } from '../net/ip.ts';

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
    // Up to a comment that follows at once, and without the CR of lines that end in CR LF.
    const server = words[0]?.split(/[;#\r]/)[0] ?? '';
    if (keyword === 'nameserver' && server !== '') nameservers.push(server);
    if (keyword === 'options') options.push(...words.filter((word) => word !== ''));
  }
  return { nameservers, options };
}

/** Canonical text of a server's address, with its `%scope`; undefined: it is no address. */
export function serverAddress(text: string): string | undefined {
  const at = text.indexOf('%');
  if (at < 0) return canonicalIp(text);
  const address = canonicalIp(text.slice(0, at));
  const scope = text.slice(at);
  return scope.length > 1 && address?.includes(':') === true ? address + scope : undefined;
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
  const lines = text.split('\n');
  const kept: string[] = [];
  let mark: string | undefined;
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? '';
    if (line.startsWith(BEGIN)) {
      mark = line.slice(BEGIN.length).trim().split(' ')[0] ?? '';
      at = lastOwn(lines, at);
    } else if (line.startsWith(ASIDE)) kept.push(line.slice(ASIDE.length));
    else if (line.trimEnd() !== END) kept.push(line);
  }
  return { rest: kept.join('\n'), mark };
}

const OWN_OPTIONS = /^options timeout:1 attempts:2( |$)/;

/** The lines that we write, each once, in whichever file. */
const OWN = [
  /^nameserver \S+$/,
  OWN_OPTIONS,
  /^name_servers="\S+ \$name_servers"$/,
  /^resolv_conf_local_only=NO$/,
  /^resolv_conf_options="timeout:1 attempts:2 \$resolv_conf_options"$/,
];

/** Of those from the mark at `begin` on. Where somebody took out the second mark: no more than we write. */
function lastOwn(lines: readonly string[], begin: number): number {
  const marks = (line: string): boolean => line.trimEnd() === END || line.startsWith(BEGIN);
  const end = lines.findIndex((line, at) => at > begin && marks(line));
  if (lines[end]?.trimEnd() === END) return end;
  let left = OWN;
  let last = begin;
  for (const line of lines.slice(begin + 1)) {
    const which = left.find((own) => own.test(line.trimEnd()));
    if (which === undefined) break;
    left = left.filter((own) => own !== which);
    last++;
  }
  return last;
}

/**
 * Our server where a file names it first, but not between our marks: another program wrote it anew
 * and kept what it understood. `before` is what it said without us.
 */
export function serverWithoutMarks(
  text: string,
  { before, isHere }: { before: string; isHere: (host: string) => boolean },
): string | undefined {
  const [first, ...others] = readResolvConf(text).nameservers;
  const known = readResolvConf(before).nameservers;
  if (first === undefined || known.includes(first)) return undefined;
  if (text.split('\n').some((line) => OWN_OPTIONS.test(line))) return first;
  const isWhole = known.length > 0 && known.join(' ') === others.join(' ');
  return isWhole && isHere(first) ? first : undefined;
}

export function withoutServer(text: string, server: string): string {
  const isOurs = (line: string): boolean =>
    OWN_OPTIONS.test(line) || readResolvConf(line).nameservers.includes(server);
  return text
    .split('\n')
    .filter((line) => !isOurs(line))
    .join('\n');
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
