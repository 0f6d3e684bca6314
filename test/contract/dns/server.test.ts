/** The listeners of DNS, over real sockets; what is answered is each test's own. */
import assert from 'node:assert/strict';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import type { Asker } from '../../../src/dns/asker.ts';
import { frame, FrameReader } from '../../../src/dns/frames.ts';
import type { Answerer, ServerLimits } from '../../../src/dns/io/listener.ts';
import { DnsServer, type ServerOptions } from '../../../src/dns/io/server.ts';
import { createLogger } from '../../../src/telemetry/io/log.ts';
import { eventually } from '../../harness/eventually.ts';

const HOST = '127.0.55.1';
const log = createLogger('error', 1);
log.level = 'silent';

/** Says what it was asked. */
const echo: Answerer = (message) => message;

async function listen(
  t: TestContext,
  answer: Answerer,
  options: Partial<ServerOptions> = {},
): Promise<{ server: DnsServer; port: number }> {
  const server = new DnsServer({ listen: [{ host: HOST, port: 0 }], answer, log, ...options });
  t.after(() => server.close());
  await server.start();
  return { server, port: server.bound[0]?.port ?? 0 };
}

async function client(t: TestContext, port: number, host = HOST, from?: string): Promise<Socket> {
  const socket = connect({ host, port, ...(from !== undefined && { localAddress: from }) });
  socket.on('error', () => undefined);
  t.after(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** Takes whole answers off a connection. */
function answersOf(socket: Socket): () => Promise<string> {
  const reader = new FrameReader();
  socket.on('data', (chunk) => reader.push(chunk));
  return () =>
    eventually('an answer', () => {
      const message = reader.next();
      return message === undefined ? undefined : Buffer.from(message).toString();
    });
}

function query(text: string): Buffer {
  return Buffer.from(frame(Buffer.from(text.padEnd(12, '.'))));
}

const padded = (text: string): string => text.padEnd(12, '.');

function udpClient(t: TestContext, type: 'udp4' | 'udp6' = 'udp4'): UdpSocket {
  const socket = createSocket(type);
  t.after(() => socket.close());
  return socket;
}

/** A promise that the test fulfils. */
function later(): { promise: Promise<Uint8Array>; settle: (text: string) => void } {
  const { promise, resolve } = Promise.withResolvers<Uint8Array>();
  return { promise, settle: (text) => resolve(Buffer.from(text)) };
}

const listening = (server: DnsServer): boolean[] =>
  server.status().map(({ listening }) => listening);

const problemsOf = (server: DnsServer): string =>
  server
    .status()
    .map(({ problem = '' }) => problem)
    .join('');

const counted = (server: DnsServer): Record<string, number> => Object.fromEntries(server.dropped);

test('an answer over UDP comes from the address that was asked', async (t) => {
  const hosts = ['127.0.55.2', '127.0.55.3', '::1'];
  const askers: Asker[] = [];
  const answer: Answerer = (message, asker) => {
    askers.push(asker);
    return message;
  };
  const { server } = await listen(t, answer, { listen: hosts.map((host) => ({ host, port: 0 })) });
  for (const { host, port } of server.bound) {
    const socket = udpClient(t, host.includes(':') ? 'udp6' : 'udp4');
    socket.send('hello, server', port, host);
    const [message, from] = (await once(socket, 'message')) as [Buffer, { address: string }];
    assert.deepEqual([String(message), from.address], ['hello, server', host]);
  }
  assert.deepEqual(
    askers,
    hosts.map((host) => ({
      transport: 'udp',
      server: host,
      client: host === '::1' ? '::1' : '127.0.0.1',
    })),
  );
  assert.deepEqual(listening(server), [true, true, true]);
});

test('answers that come later reach those who asked, over UDP too', async (t) => {
  const { promise, settle } = later();
  const { port } = await listen(t, () => promise);
  const socket = udpClient(t);
  socket.send('hello, server', port, HOST);
  const answered = once(socket, 'message') as Promise<[Buffer]>;
  settle('at last');
  assert.equal(String((await answered)[0]), 'at last');
});

test('an answer that comes when the listener is gone is dropped', async (t) => {
  const { promise, settle } = later();
  const { promise: asked, resolve: isAsked } = Promise.withResolvers<void>();
  const { server, port } = await listen(t, () => {
    isAsked();
    return promise;
  });
  udpClient(t).send(padded('early'), port, HOST);
  await asked;
  await server.close();
  settle('nobody hears it');
  await eventually('that it is dropped', () => server.dropped.get('send'));
  assert.deepEqual(counted(server), { send: 1 });
});

test('several queries on one connection are answered as they are ready', async (t) => {
  const { promise, settle } = later();
  const { port } = await listen(t, (message) =>
    String(message).startsWith('slow') ? promise : message,
  );
  const socket = await client(t, port);
  const answer = answersOf(socket);
  socket.write(Buffer.concat([query('slow'), query('one'), query('two')]));
  assert.equal(await answer(), padded('one'));
  assert.equal(await answer(), padded('two'));
  settle('the slow one');
  assert.equal(await answer(), 'the slow one');
});

test('a query that comes byte by byte is one query, and lengths may be split', async (t) => {
  const { port } = await listen(t, echo);
  const socket = await client(t, port);
  socket.setNoDelay(true);
  const answer = answersOf(socket);
  for (const byte of Buffer.concat([query('one'), query('two')])) {
    socket.write(Buffer.of(byte));
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(await answer(), padded('one'));
  assert.equal(await answer(), padded('two'));
});

test('a client that ends its side has its answers first', async (t) => {
  const { promise, settle } = later();
  const { port } = await listen(t, () => promise);
  const socket = await client(t, port);
  const answer = answersOf(socket);
  socket.end(query('one'));
  const ended = once(socket, 'end');
  // The server has read the end of what the client says when it is asked the next thing.
  const other = await client(t, port);
  other.destroy();
  settle('after the end');
  assert.equal(await answer(), 'after the end');
  await ended;
});

test('no more queries of a connection are taken in than may be open', async (t) => {
  const open: ReturnType<typeof later>[] = [];
  const { port } = await listen(
    t,
    () => {
      const one = later();
      open.push(one);
      return one.promise;
    },
    { limits: { queriesAtOnceMax: 3 } },
  );
  const socket = await client(t, port);
  const answer = answersOf(socket);
  socket.write(Buffer.concat(Array.from({ length: 10 }, (_, i) => query(`q${i}`))));
  for (let answered = 0; answered < 10; answered++) {
    await eventually('a query', () => open.length > answered);
    assert.ok(open.length <= answered + 3, `${open.length} open, ${answered} answered`);
    open[answered]?.settle(`answer ${answered}`);
    assert.equal(await answer(), `answer ${answered}`);
  }
  assert.equal(open.length, 10);
});

async function untilClosed(socket: Socket): Promise<void> {
  socket.resume();
  if (!socket.closed) await once(socket, 'close');
}

test('a connection that asks nothing is closed, also one that sends a byte now and then', async (t) => {
  const { server, port } = await listen(t, echo, { limits: { idleTimeoutMs: 300 } });
  const silent = await client(t, port);
  const dribbling = await client(t, port);
  let sent = 0;
  const timer = setInterval(() => {
    sent += 1;
    dribbling.write(Buffer.of(0xff));
  }, 50);
  await Promise.all([untilClosed(silent), untilClosed(dribbling)]);
  clearInterval(timer);
  assert.ok(sent > 0);
  await eventually('no connection', () => server.connections === 0);
});

test('a connection whose answer is on its way is not idle', async (t) => {
  const { promise, settle } = later();
  const { port } = await listen(
    t,
    (message) => (String(message).startsWith('late') ? promise : message),
    {
      limits: { idleTimeoutMs: 50 },
    },
  );
  const socket = await client(t, port);
  const answer = answersOf(socket);
  socket.write(query('late'));
  const idle = await client(t, port);
  await untilClosed(idle); // the limit has passed
  settle('the answer');
  assert.equal(await answer(), 'the answer');
});

test('a client that does not read its answers is let go, and keeps little', async (t) => {
  const large = new Uint8Array(60_000);
  const { server, port } = await listen(t, () => large, { limits: { idleTimeoutMs: 300 } });
  const socket = await client(t, port);
  socket.pause();
  socket.write(Buffer.concat(Array.from({ length: 2000 }, () => query('again'))));
  await eventually('it to be let go', () => server.connections === 0);
  assert.deepEqual(counted(server), { slow_reader: 1 });
});

test('late answers that nobody reads do not pile up', async (t) => {
  const { promise, settle } = later();
  const { server, port } = await listen(t, () => promise, {
    limits: { queriesAtOnceMax: 1000, unreadBytesMax: 100_000 },
  });
  const socket = await client(t, port);
  socket.pause();
  socket.write(Buffer.concat(Array.from({ length: 1000 }, () => query('again'))));
  await eventually('them to be asked', () => server.connections === 1);
  settle('x'.repeat(60_000));
  await eventually('it to be let go', () => server.connections === 0);
  assert.deepEqual(counted(server), { slow_reader: 1 });
});

test('what cannot be a query ends the connection', async (t) => {
  let asked = 0;
  const { server, port } = await listen(t, (message) => {
    asked += 1;
    return message;
  });
  const socket = await client(t, port);
  socket.write(frame(Buffer.from('short')));
  await untilClosed(socket);
  assert.deepEqual([asked, counted(server)], [0, { malformed: 1 }]);
});

test('when all places are taken whoever is idle longest makes room, and nobody at work', async (t) => {
  const { promise, settle } = later();
  const { server, port } = await listen(
    t,
    (message) => (String(message).startsWith('slow') ? promise : message),
    { limits: { connectionsMax: 2 } },
  );
  const first = await client(t, port);
  const firstAnswer = answersOf(first);
  first.write(query('one'));
  await firstAnswer();
  const second = await client(t, port);
  const secondAnswer = answersOf(second);
  second.write(query('one'));
  await secondAnswer();
  const third = await client(t, port);
  await untilClosed(first);
  const thirdAnswer = answersOf(third);
  second.write(query('slow'));
  third.write(Buffer.concat([query('slow'), query('two')]));
  assert.equal(await thirdAnswer(), padded('two'));
  second.write(query('two'));
  assert.equal(await secondAnswer(), padded('two'));
  await untilClosed(await client(t, port));
  assert.deepEqual(counted(server), { connections: 1 });
  settle('the slow one');
  assert.equal(await secondAnswer(), 'the slow one');
  assert.equal(await thirdAnswer(), 'the slow one');
});

test('who opens many connections pushes out its own, and keeps nobody out', async (t) => {
  const { promise, settle } = later();
  const { server, port } = await listen(
    t,
    (message) => (String(message).startsWith('slow') ? promise : message),
    { limits: { connectionsMax: 4 } },
  );
  const quiet = await client(t, port, HOST, '127.0.55.2');
  const quietAnswer = answersOf(quiet);
  quiet.write(query('one'));
  await quietAnswer();
  // The quiet one is idle longest, and stays.
  const many: Socket[] = [];
  for (let i = 0; i < 10; i++) {
    const socket = await client(t, port, HOST, '127.0.55.3');
    const answer = answersOf(socket);
    socket.write(query('one'));
    await answer();
    many.push(socket);
  }
  for (const socket of many.slice(0, 7)) await untilClosed(socket);
  quiet.write(query('two'));
  assert.equal(await quietAnswer(), padded('two'));
  // All places at work: its next one is turned away, another client's is not.
  for (const socket of [quiet, ...many.slice(7)]) {
    const answer = answersOf(socket);
    socket.write(Buffer.concat([query('slow'), query('three')]));
    assert.equal(await answer(), padded('three'));
  }
  await untilClosed(await client(t, port, HOST, '127.0.55.3'));
  const other = await client(t, port, HOST, '127.0.55.4');
  const otherAnswer = answersOf(other);
  other.write(query('four'));
  assert.equal(await otherAnswer(), padded('four'));
  await untilClosed(many[7] as Socket);
  assert.deepEqual(counted(server), { connections: 1 });
  settle('the slow one');
});

test('a flood of datagrams lets everything else have its turn', async (t) => {
  let turn = 0;
  let asked = 0;
  let most = 0;
  const { port } = await listen(t, () => {
    asked += 1;
    turn += 1;
    most = Math.max(most, turn);
    return undefined;
  });
  const socket = udpClient(t);
  for (let sent = 0; sent < 1000; sent++) socket.send('hello, server', port, HOST);
  let turns = 0;
  await new Promise<void>((resolve) => {
    const next = (): void => {
      turn = 0;
      turns += 1;
      if (asked < 500 && turns < 100_000) setImmediate(next);
      else resolve();
    };
    next();
  });
  assert.ok(asked >= 500, `${asked} came`);
  // What the addon hands over before the loop goes on.
  assert.ok(most <= 32, `${most} in one turn`);
});

test('an address that another process has is a problem that names it, and is taken when it is free', async (t) => {
  const other = createServer();
  other.listen({ host: '127.0.55.9', port: 0 });
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  const { server } = await listen(t, echo, {
    listen: [
      { host: '127.0.55.9', port },
      { host: HOST, port: 0 },
    ],
    limits: { retryMs: 20 } satisfies Partial<ServerLimits>,
  });
  assert.match(
    problemsOf(server),
    new RegExp(
      `^TCP 127\\.0\\.55\\.9:${port} is taken by \\S+ \\(pid ${process.pid}\\): stop it, or give another address in dns\\.listen$`,
    ),
  );
  assert.deepEqual(listening(server), [false, true]);
  other.close();
  await once(other, 'close');
  await eventually('no problem', () => problemsOf(server) === '');
  assert.deepEqual(listening(server), [true, true]);
  const answer = answersOf(
    await client(t, port, '127.0.55.9').then((socket) => {
      socket.write(query('one'));
      return socket;
    }),
  );
  assert.equal(await answer(), padded('one'));
});

test('an address that no interface has is waited for', async (t) => {
  const { server } = await listen(t, echo, { listen: [{ host: '192.0.2.7', port: 5300 }] });
  assert.deepEqual(server.status(), [
    {
      address: '192.0.2.7:5300',
      listening: false,
      problem: ['UDP', 'TCP']
        .map(
          (transport) =>
            `${transport} 192.0.2.7:5300: no interface has this address yet; add it, or give another one in dns.listen`,
        )
        .join('; '),
    },
  ]);
});

test('where the addresses of the host cannot be told for a while, they are followed afterwards', async (t) => {
  let addresses = (): readonly string[] => ['127.0.55.4'];
  const { server } = await listen(t, echo, {
    listen: [{ host: '0.0.0.0', port: 0 }],
    addresses: () => addresses(),
  });
  const hosts = (): string[] => server.bound.map(({ host }) => host);
  addresses = () => {
    throw new Error('EMFILE: too many open files'); // as os.networkInterfaces() does
  };
  await server.refresh();
  assert.deepEqual(hosts(), ['127.0.55.4']);
  addresses = () => ['127.0.55.4', '127.0.55.5'];
  await server.refresh();
  assert.deepEqual(hosts(), ['127.0.55.4', '127.0.55.5']);
});

test('an address is our own however it is written', async (t) => {
  const { server } = await listen(t, echo, {
    listen: [
      { host: '0:0:0:0:0:0:0:1', port: 0 },
      { host: HOST, port: 0 },
    ],
  });
  const [six = 0, four = 0] = server.bound.map(({ port }) => port);
  assert.deepEqual(
    ['::1', '0::1', '0:0:0:0:0:0:0:1', '::2', '::1%lo'].map((host) => server.isOwn(host, six)),
    [true, true, true, false, false],
  );
  assert.deepEqual(
    [HOST, `::ffff:${HOST}`, 'foo'].map((host) => server.isOwn(host, four)),
    [true, true, false],
  );
});

test('all addresses are as many listeners as the host has addresses, and follow them', async (t) => {
  let addresses: readonly string[] = ['127.0.55.4', '127.0.55.5', '::1'];
  const { server } = await listen(t, echo, {
    listen: [{ host: '0.0.0.0', port: 0 }],
    addresses: () => addresses,
  });
  const hosts = (): string[] => server.bound.map(({ host }) => host);
  assert.deepEqual(hosts(), ['127.0.55.4', '127.0.55.5']);
  addresses = ['127.0.55.5', '127.0.55.6'];
  await server.refresh();
  assert.deepEqual(hosts(), ['127.0.55.5', '127.0.55.6']);
  const own = server.bound[0]?.port ?? 0;
  assert.deepEqual(
    [server.isOwn('127.0.55.5', own), server.isOwn('127.0.55.4', own)],
    [true, false],
  );
});
