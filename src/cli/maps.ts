/**
 * `zerohop maps`: the BPF maps as they are in the kernel, read from the pins.
 * No agent is asked, so it tells the truth when the agent is gone or wrong.
 */
import type { Command } from 'commander';
import { DEFAULT_PIN_DIR } from '../config/defaults.ts';
import type { DumpFrontend, ListedMap, Row, UnlistedMap } from '../datapath/dump.ts';
import type { MapName } from '../datapath/hooks.ts';
import { option } from './options.ts';
import { print, printJson, UsageError } from './output.ts';

interface Options {
  readonly pin: string;
  readonly json?: true;
  readonly raw?: true;
}

function command(parent: Command, usage: string): Command {
  return parent
    .command(usage)
    .addOption(option('--pin <dir>', "the agent's pin folder").default(DEFAULT_PIN_DIR))
    .addOption(option('--json', 'print one JSON document'));
}

async function list({ pin, json }: Options): Promise<void> {
  const { summarize } = await import('../datapath/io/inspect.ts');
  const { Pins } = await import('../datapath/io/pins.ts');
  const { mapPurpose } = await import('../datapath/dump.ts');
  const maps = summarize(new Pins(pin));
  if (json === true) {
    printJson({
      pinDir: pin,
      maps: maps.map((map) => ({ ...map, purpose: mapPurpose[map.name] })),
    });
    return;
  }
  const { columns } = await import('./table.ts');
  const rows = maps.map((map) => [
    map.name,
    `${map.id}`,
    map.type.replace('BPF_MAP_TYPE_', '').toLowerCase(),
    `${map.keyBytes}+${map.valueBytes}`,
    map.used === undefined ? '-' : `${map.used}`,
    `${map.max}`,
    mapPurpose[map.name],
  ]);
  print(columns(rows, ['MAP', 'ID', 'TYPE', 'BYTES', 'USED', 'MAX', 'HOLDS']));
}

function frontendRows(frontends: readonly DumpFrontend[]): string[][] {
  return frontends.flatMap((f) => {
    const head = [`${f.service}:${f.port}`, `${f.vip}/${f.protocol}`];
    const refused = f.refused > 0 ? `, ${f.refused} refused` : '';
    if (f.backends.length === 0) return [[...head, `(${f.state}${refused})`, '', '', '', '']];
    return f.backends.map((b, i) => [
      ...(i === 0 ? head : ['', '']),
      b.address,
      `${b.weight}`,
      `${b.sharePercent.toFixed(1)} %`,
      i === 0 && f.state !== 'serving' ? `${b.state} (${f.state}${refused})` : b.state,
      `${b.connects + b.sends}`,
    ]);
  });
}

async function printFrontends(pin: string, json: boolean): Promise<void> {
  const { readFrontends } = await import('../datapath/io/inspect.ts');
  const { Pins } = await import('../datapath/io/pins.ts');
  const frontends = readFrontends(new Pins(pin));
  if (json) {
    printJson({ pinDir: pin, frontends });
    return;
  }
  if (frontends.length === 0) {
    print('no services in the maps');
    return;
  }
  const { columns } = await import('./table.ts');
  print(
    columns(frontendRows(frontends), [
      'SERVICE',
      'VIP',
      'BACKEND',
      'WEIGHT',
      'SHARE',
      'STATE',
      'PICKED',
    ]),
  );
}

const hex = (bytes: Uint8Array): string =>
  Buffer.from(bytes)
    .toString('hex')
    .replace(/(..)(?=.)/g, '$1 ');

async function printRaw(pin: string, name: MapName, json: boolean): Promise<void> {
  const { eachEntry, openPinnedMap } = await import('../datapath/io/inspect.ts');
  const { Pins } = await import('../datapath/io/pins.ts');
  using map = openPinnedMap(new Pins(pin), name);
  const entries: { key: string; value: string }[] = [];
  eachEntry(map, (key, value) => {
    // An array has every index; those never written are left out.
    if (map.info.type.endsWith('ARRAY') && value.every((byte) => byte === 0)) return;
    entries.push({ key: hex(key), value: hex(value) });
  });
  if (json) printJson({ map: name, entries });
  else for (const { key, value } of entries) print(`${key}  →  ${value}`);
}

async function printRows(pin: string, name: ListedMap, json: boolean): Promise<void> {
  const { readRows } = await import('../datapath/io/inspect.ts');
  const { Pins } = await import('../datapath/io/pins.ts');
  const rows: Row[] = readRows(new Pins(pin), name);
  if (json) {
    printJson({ map: name, entries: rows });
    return;
  }
  const [first] = rows;
  if (first === undefined) {
    print(`${name} is empty`);
    return;
  }
  const { columns } = await import('./table.ts');
  const headers = Object.keys(first);
  print(
    columns(
      rows.map((row) => headers.map((h) => `${row[h] ?? ''}`)),
      headers.map((h) => h.toUpperCase()),
    ),
  );
}

const unlisted: Readonly<Record<UnlistedMap, string>> = {
  zh_flows: 'zh_flows is kept with each socket: the kernel cannot list it',
  zh_acl_events: 'zh_acl_events is a ring buffer: `zerohop acl log` shows what was in it',
};

async function dump(given: string | undefined, { pin, json, raw }: Options): Promise<void> {
  if (given === undefined) {
    if (raw === true)
      throw new UsageError('--raw needs the name of a map', 'zerohop maps ls lists them');
    return printFrontends(pin, json === true);
  }
  const { mapNames } = await import('../datapath/io/inspect.ts');
  const name = mapNames.find((map) => map === given || map === `zh_${given}`);
  if (name === undefined) {
    throw new UsageError(`there is no map "${given}"`, `maps: ${mapNames.join(', ')}`);
  }
  const { isListed } = await import('../datapath/dump.ts');
  if (!isListed(name)) throw new UsageError(unlisted[name]);
  return raw === true ? printRaw(pin, name, json === true) : printRows(pin, name, json === true);
}

export function registerMaps(program: Command): void {
  const maps = program
    .command('maps')
    .description('the BPF maps as they are in the kernel; needs root, but no running agent');
  command(maps, 'ls').description('every map: id, size, how full').action(list);
  command(maps, 'dump [map]')
    .description('what the kernel does with each VIP, or the entries of one map')
    .addOption(option('--raw', 'bytes in hexadecimal instead of words'))
    .addHelpText(
      'after',
      '\nExamples:\n  zerohop maps dump\n  zerohop maps dump zh_vips\n  zerohop maps dump slots --raw\n  zerohop maps dump acl_rules',
    )
    .action(dump);
}
