/** `zerohop kv`: the key-value store that every host of the cluster has and writes to. */
import type { Command, Option } from 'commander';
import type { KvAnswer, KvChangeAnswer, KvWriteAnswer } from '../api/kv-schemas.ts';
import { changeText, formatPath, valueText, type KvEntry } from '../state/kv-text.ts';
import { ProblemError } from '../state/problem.ts';
import type { Json, KvChange, KvOperation, KvType, Path } from '../state/replica/kv.ts';
import { pathOf } from './kv-path.ts';
import { registerKvWatch } from './kv-watch.ts';
import { clientCommand, connect, option, type ClientOptions } from './options.ts';
import { counted, note, print, printJson, UsageError } from './output.ts';

interface TypeOptions extends ClientOptions {
  readonly type?: KvType;
}

/** More lines than this help nobody; --json has them all. */
const CHANGE_LINES_MAX = 50;

async function read(options: TypeOptions, path: Path): Promise<readonly KvEntry[]> {
  const agent = await connect(options);
  const query = { path: formatPath(path), type: options.type };
  const { entries } = await agent.call<KvAnswer>('GET', '/v1/kv', query);
  return entries as readonly KvEntry[];
}

async function write(
  options: ClientOptions,
  operations: readonly KvOperation[],
): Promise<readonly KvChangeAnswer[]> {
  const agent = await connect(options);
  return (await agent.call<KvWriteAnswer>('POST', '/v1/kv', {}, { operations })).changes;
}

function printChanges(changes: readonly KvChangeAnswer[], json: boolean): void {
  if (json) {
    printJson({ changes });
    return;
  }
  const lines = (changes as readonly KvChange[]).map(changeText);
  for (const line of lines.slice(0, CHANGE_LINES_MAX)) print(line);
  const more = lines.length - CHANGE_LINES_MAX;
  if (more > 0) print(`… and ${more} more (--json lists all)`);
  if (lines.length === 0) print('nothing to change');
}

async function change(options: ClientOptions, operations: readonly KvOperation[]): Promise<void> {
  printChanges(await write(options, operations), options.json === true);
}

async function printTable(entries: readonly KvEntry[]): Promise<void> {
  const { columns } = await import('./table.ts');
  const rows = entries.map(({ path, value }) => [formatPath(path), value.type, valueText(value)]);
  print(columns(rows, ['PATH', 'TYPE', 'VALUE']));
}

/** As a script wants it: text without quotes, the elements of a set one a line. */
function printPlain({ value }: KvEntry): void {
  if (value.type === 'set') value.elements.forEach((element) => print(element));
  else if (value.type === 'register' && typeof value.value === 'string') print(`${value.value}\n`);
  else print(valueText(value));
}

async function get(text: string, options: TypeOptions): Promise<void> {
  const path = pathOf(text);
  const entries = await read(options, path);
  if (options.json === true) {
    printJson({ entries });
    return;
  }
  const here = entries.filter((entry) => entry.path.length === path.length);
  const below = entries.length - here.length;
  const [first] = here;
  if (first === undefined) {
    await printTable(entries);
  } else if (here.length === 1 && below === 0) {
    printPlain(first);
  } else {
    for (const { value } of here) print(`${value.type}: ${valueText(value)}`);
    if (below > 0) print(`map: ${counted(below, 'value')} below (zerohop kv ls ${text})`);
  }
}

async function list(
  text: string | undefined,
  options: ClientOptions & { quiet?: true },
): Promise<void> {
  const entries = await read(options, text === undefined ? [] : pathOf(text));
  if (options.json === true) printJson({ entries });
  else if (options.quiet === true)
    new Set(entries.map(({ path }) => formatPath(path))).forEach((path) => print(path));
  else if (entries.length === 0) note('no keys yet: `zerohop kv set` sets one');
  else await printTable(entries);
}

function parseJson(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch (error) {
    throw new UsageError(
      `the value is no JSON: ${error instanceof Error ? error.message : String(error)}`,
      'without --json-value it is taken as text',
    );
  }
}

async function set(
  text: string,
  value: string,
  options: ClientOptions & { jsonValue?: true },
): Promise<void> {
  const path = pathOf(text);
  const json = options.jsonValue === true ? parseJson(value) : value;
  await change(options, [{ do: 'set', path, value: json }]);
}

/** What `rm` removes at one path: whatever is there, but what is below only when told so. */
async function removals(text: string, options: TypeOptions): Promise<readonly KvOperation[]> {
  const path = pathOf(text);
  const entries = await read(options, path);
  if (options.type !== undefined) return [{ do: 'delete', path, type: options.type }];
  const here = entries.filter((entry) => entry.path.length === path.length);
  const below = counted(entries.length - here.length, 'value');
  if (here.length === 0) {
    const message = `${text} is a map with ${below} below it`;
    const hint = '--type map removes them all';
    throw new ProblemError([{ code: 'invalid', message, hint }]);
  }
  if (entries.length > here.length)
    note(`${text} keeps ${below} below it; --type map removes them`);
  return here.map(({ value: { type } }) => ({ do: 'delete', path, type }));
}

async function remove(texts: readonly string[], options: TypeOptions): Promise<void> {
  const operations = await Promise.all(texts.map((text) => removals(text, options)));
  await change(options, operations.flat());
}

async function increment(text: string, options: ClientOptions & { by: string }): Promise<void> {
  const by = Number(options.by);
  if (!/^[+-]?[0-9]+$/.test(options.by) || by === 0 || !Number.isSafeInteger(by))
    throw new UsageError(`--by "${options.by}" is not a whole number other than 0`);
  const changes = await write(options, [{ do: 'increment', path: pathOf(text), by }]);
  const after = changes[0]?.after;
  if (options.json === true || after?.type !== 'counter')
    printChanges(changes, options.json === true);
  else print(String(after.value));
}

const HELP = `
A path is names with one slash between them; within a name %2F is a slash and %25 a percent
sign. A name may be there as several types at once: they do not touch each other.

Every host writes without asking the others. When two write at once:
  register  (set, rm)          the later value stays; a value stays over a removal
  set       (add, remove)      the element is there: it is removed only by who had seen it added
  flag      (enable, disable)  enabled
  counter   (incr)             the sum; counted and removed: the part of the host that counted
  map       (rm --type map)    what was written below it stays, the rest goes

Examples:
  zerohop kv set config/motd "hello"
  zerohop kv get config/motd
  zerohop kv incr hits --by 10
  zerohop kv add team ann && zerohop kv ls
  zerohop kv watch config`;

const HELPS = {
  set: `
Two hosts at once: the later value stays; a value stays over a removal.
A value that begins with a dash comes after --.

Examples:
  zerohop kv set config/motd "hello"
  zerohop kv set config/limits '{"cpu": 2}' --json-value
  zerohop kv set config/offset -- -5`,
  get: `
Text is printed as it is, other JSON as JSON, a set one element a line, a flag as "enabled".
A name that is there as several types is shown as such: --type makes a script sure.
Exit code 1 if there is nothing, as with a flag that is not enabled.

Examples:
  zerohop kv get config/motd
  zerohop kv get hits --type counter
  if zerohop kv get features/beta >/dev/null; then …`,
  rm: `
Removes what is at the path, of all types; what is below only with --type map. All paths
or none. Two hosts at once: what one of them writes meanwhile stays.

Examples:
  zerohop kv rm config/motd
  zerohop kv rm config --type map`,
  incr: `
Prints the new value as this host knows it. Two hosts at once: the sum of both; counted here
and removed there: this host's part stays.

Examples:
  zerohop kv incr hits
  zerohop kv incr hits --by -3`,
  add: `
Two hosts at once: an element that one adds and the other removes is there.

Example:
  zerohop kv add team ann bob`,
  remove: `
Two hosts at once: an element that one adds and the other removes is there.

Example:
  zerohop kv remove team bob`,
  enable: `
Two hosts at once: a flag that one enables and the other disables is enabled.

Example:
  zerohop kv enable features/beta`,
  disable: `
Two hosts at once: a flag that one enables and the other disables is enabled.

Example:
  zerohop kv disable features/beta`,
} as const;

/** One of the commands, with the help that it has. */
function subcommand(kv: Command, words: string, description: string): Command {
  const command = clientCommand(kv.command(words)).description(description);
  const name = command.name();
  return Object.hasOwn(HELPS, name)
    ? command.addHelpText('after', HELPS[name as keyof typeof HELPS])
    : command;
}

export function registerKv(program: Command): void {
  const kv = program
    .command('kv')
    .description('a key-value store on all hosts: registers, sets, flags, counters, and changes')
    .addHelpText('after', HELP);
  const type = (description: string): Option =>
    option('--type <type>', description).choices(['register', 'set', 'flag', 'counter', 'map']);
  subcommand(kv, 'get <path>', 'print a value').addOption(type('of this type only')).action(get);
  subcommand(kv, 'set <path> <value>', 'set a register to a text, or with --json-value to any JSON')
    .addOption(option('--json-value', 'the value is JSON'))
    .action(set);
  subcommand(kv, 'rm <path...>', 'remove what is there')
    .addOption(type('of this type only; map: everything below'))
    .action(remove);
  subcommand(kv, 'incr <path>', 'count a counter up, or down')
    .addOption(option('--by <n>', 'this much').default('1'))
    .action(increment);
  for (const [name, description] of [
    ['add', 'add elements to a set'],
    ['remove', 'remove elements from a set'],
  ] as const)
    subcommand(kv, `${name} <path> <element...>`, description).action(
      (text: string, elements: readonly string[], options: ClientOptions) => {
        const path = pathOf(text);
        return change(
          options,
          elements.map((element) => ({ do: name, path, element })),
        );
      },
    );
  for (const [name, description] of [
    ['enable', 'enable a flag'],
    ['disable', 'disable a flag: it is as if it had never been there'],
  ] as const)
    subcommand(kv, `${name} <path>`, description).action((text: string, options: ClientOptions) =>
      change(options, [{ do: name, path: pathOf(text) }]),
    );
  subcommand(kv, 'ls [path]', 'list what is there, or below a path')
    .addOption(option('-q, --quiet', 'paths only'))
    .action(list);
  registerKvWatch(kv);
}
