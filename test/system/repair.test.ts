/** Somebody else writes into the maps: the next full check puts them right and says what it was. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { run } from '../harness/child.ts';
import { smallConfig } from '../harness/config.ts';
import { ask } from '../harness/clients.ts';
import { eventually } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import {
  deleteEntry,
  dumpMap,
  dumpTables,
  linkIds,
  type RawEntry,
  setEntry,
} from '../harness/maps.ts';
import { echoes } from '../harness/servers.ts';
import { putService, VIP4, VIP6 } from '../harness/services.ts';

const CHECK_MS = 150;

let host: TestHost;
let config: string;

interface Frontend {
  readonly service: string;
  readonly vip: string;
  readonly backends: readonly { address: string; weight: number; sharePercent: number }[];
}

before(async () => {
  host = await TestHost.create();
  config = host.writeConfig({ ...smallConfig, fullCheckIntervalMs: CHECK_MS });
  await host.agent.start({ config });
  const { echoes: list } = await echoes(host, { name: 'a' }, { name: 'b' }, { name: 'c' });
  const backends = list.map(({ address, port }, i) => ({ address, port, weight: i + 1 }));
  const ports = [{ port: 80 }];
  await putService(host, 'web', { vips: [VIP4, VIP6], ports, backends });
  await putService(host, 'shop', {
    vips: ['240.0.0.2'],
    ports: [{ port: 81 }],
    backends: backends.slice(0, 2),
  });
});

after(async () => {
  await host[Symbol.asyncDispose]();
});

/** What a reader of `maps dump` sees, without counters. */
async function meaning(): Promise<unknown> {
  const { frontends } = (await host.must('maps', 'dump', '--json')).json() as {
    frontends: Frontend[];
  };
  return frontends.map(({ service, vip, backends }) => ({
    service,
    vip,
    backends: backends
      .map(({ address, weight, sharePercent }) => `${address} ${weight} ${sharePercent}`)
      .toSorted((a, b) => (a < b ? -1 : 1)),
  }));
}

interface Status {
  readonly datapath: { readonly repairedEntries: number; readonly lastFullCheckAt?: string };
}

const status = async (): Promise<Status['datapath']> =>
  ((await host.api('GET', '/v1/status')).json() as Status).datapath;

/** Waits until two more full checks have begun and ended. */
async function checksPass(): Promise<void> {
  for (let i = 0; i < 2; i++) {
    const { lastFullCheckAt: last } = await status();
    await eventually(
      'a full check',
      async () => {
        const { lastFullCheckAt } = await status();
        return lastFullCheckAt !== undefined && lastFullCheckAt !== last;
      },
      { timeoutMs: 20 * CHECK_MS },
    );
  }
}

const repairs = (): string[] =>
  host.agent
    .log()
    .filter((line) => line['message'] === 'someone changed the maps: put right')
    .map((line) => JSON.stringify(line));

const flip = (value: readonly string[], at: number): string[] =>
  value.map((byte, i) => (i === at ? String(Number(byte) ^ 1) : String(Number(byte))));
const bytes = (list: readonly string[]): string[] => list.map((byte) => String(Number(byte)));

/** The entry of the VIP 240.0.0.1, port 80. */
async function webVip(): Promise<RawEntry> {
  const entries = await dumpMap(host, 'zh_vips');
  const found = entries.find(({ key }) => {
    const text = bytes(key).join('.');
    return text.includes('255.255.240.0.0.1.0.80.');
  });
  assert.ok(found !== undefined, 'no entry of the VIP');
  return found;
}

async function entryOf(map: string, index: number): Promise<RawEntry> {
  const found = (await dumpMap(host, map)).find(({ key }) => u32(key, 0) === index);
  assert.ok(found !== undefined, `${map} has no ${index}`);
  return found;
}

const u32 = (list: readonly string[], at: number): number =>
  Buffer.from(bytes(list).map(Number)).readUInt32LE(at);

/** Entries that the VIP really uses; struct zh_service: key[20], members, {base, count, gen}. */
async function webService(): Promise<RawEntry> {
  return await entryOf('zh_services', u32((await webVip()).value, 0));
}

async function webSlot(): Promise<RawEntry> {
  return await entryOf('zh_slots', u32((await webService()).value, 24));
}

async function webBackend(): Promise<RawEntry> {
  return await entryOf('zh_backends', u32((await webSlot()).value, 0));
}

const damages: readonly { what: string; log: RegExp; damage: () => Promise<void> }[] = [
  {
    what: 'a VIP is deleted',
    log: /240\.0\.0\.1:80\/tcp \(web:tcp-80\): not in the maps/,
    damage: async () => deleteEntry(host, 'zh_vips', bytes((await webVip()).key)),
  },
  {
    what: 'a VIP points to another service',
    log: /240\.0\.0\.1/,
    damage: async () => {
      const { key, value } = await webVip();
      await setEntry(host, 'zh_vips', bytes(key), flip(value, 0));
    },
  },
  {
    what: 'a VIP of nobody is added',
    log: /240\.9\.9\.9/,
    damage: async () => {
      const { key, value } = await webVip();
      const stranger = bytes(key).with(13, '9').with(14, '9').with(15, '9');
      await setEntry(host, 'zh_vips', stranger, bytes(value));
    },
  },
  {
    what: 'a slot names another backend',
    log: /web/,
    damage: async () => {
      const { key, value } = await webSlot();
      await setEntry(host, 'zh_slots', bytes(key), flip(value, 0));
    },
  },
  {
    what: 'a slot has another threshold',
    log: /web/,
    damage: async () => {
      const { key, value } = await webSlot();
      await setEntry(host, 'zh_slots', bytes(key), flip(value, 11));
    },
  },
  {
    what: 'a backend has another address',
    log: /web/,
    damage: async () => {
      const { key, value } = await webBackend();
      await setEntry(host, 'zh_backends', bytes(key), flip(value, 15));
    },
  },
  {
    what: 'a service is wiped',
    log: /web/,
    damage: async () => {
      const { key, value } = await webService();
      await setEntry(
        host,
        'zh_services',
        bytes(key),
        value.map(() => '0'),
      );
    },
  },
  {
    what: 'a name is changed',
    log: /web/,
    damage: async () => {
      const { key, value } = await entryOf('zh_names', u32((await webVip()).value, 0));
      await setEntry(host, 'zh_names', bytes(key), flip(value, 0));
    },
  },
];

test('nothing is repaired and nothing logged while nobody touches the maps', async () => {
  const tables = await dumpTables(host);
  await checksPass();
  assert.deepEqual(await dumpTables(host), tables);
  assert.equal((await status()).repairedEntries, 0);
  assert.deepEqual(repairs(), []);
});

for (const { what, log, damage } of damages) {
  test(`${what}: put right at the next full check, and the log names it`, async () => {
    const good = await meaning();
    const before = (await status()).repairedEntries;
    const linesBefore = repairs().length;
    await damage();
    await eventually('a repair', async () => (await status()).repairedEntries > before);
    assert.deepEqual(await meaning(), good);
    for (const [vip, port] of [
      [VIP4, 80],
      ['240.0.0.2', 81],
    ] as const) {
      const seen = await ask(host, 'C', 'tcp', vip, port);
      assert.equal(seen.peer, `${vip}:${port}`, seen.error);
    }
    await eventually('a line in the log', () => repairs().length > linesBefore);
    const lines = repairs().slice(linesBefore);
    assert.match(lines.join('\n'), log);

    const [count, tables] = [(await status()).repairedEntries, await dumpTables(host)];
    await checksPass();
    assert.equal((await status()).repairedEntries, count, 'repaired once more');
    assert.deepEqual(await dumpTables(host), tables);
  });
}

test('damage done while the agent was away is put right at its start', async () => {
  const good = await meaning();
  await host.agent.kill('SIGKILL');
  const { key, value } = await webBackend();
  await setEntry(host, 'zh_backends', bytes(key), flip(value, 15));
  await deleteEntry(host, 'zh_vips', bytes((await webVip()).key));
  await host.agent.start({ config });
  assert.deepEqual(await meaning(), good);
  const said = host.agent.log().some((line) => line['message'] === 'put the pinned maps right');
  assert.ok(said, 'not a word in the log');
});

test('a link that somebody detached or whose pin is gone is attached again at the next start', async () => {
  const before = await linkIds(host);
  const detached = before.get('connect4');
  assert.ok(detached !== undefined);
  await run(['bpftool', 'link', 'detach', 'id', String(detached.id)]);
  await run(['rm', `${host.pinDir}/links/sendmsg4`]);
  await host.agent.kill('SIGTERM');
  await host.agent.start({ config });
  const seen = await ask(host, 'C', 'tcp', VIP4, 80);
  assert.equal(seen.peer, `${VIP4}:80`, seen.error);
  const afterwards = await linkIds(host);
  assert.equal(afterwards.size, before.size);
  for (const [hook, { id }] of before) {
    const same = afterwards.get(hook)?.id === id;
    assert.equal(same, hook !== 'connect4' && hook !== 'sendmsg4', hook);
  }
});
