import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { Allowed } from '../../../src/dns/allow.ts';
import { frame, FrameReader } from '../../../src/dns/frames.ts';
import { hostUpstreams } from '../../../src/dns/io/host-upstreams.ts';
import {
  pointedAtUs,
  readResolvConf,
  serverAddress,
  serverWithoutMarks,
  withoutOwnLines,
  withoutServer,
  withOwnLines,
} from '../../../src/dns/resolv-conf.ts';
import { reverseZones } from '../../../src/dns/reverse.ts';
import { parseCidr, type Cidr } from '../../../src/net/cidr.ts';

function cidr(text: string): Cidr {
  const result = parseCidr(text);
  assert.ok(result.ok);
  return result.cidr;
}

const anyLine = fc.oneof(
  fc.constantFrom(
    'nameserver 192.0.2.1',
    'options rotate',
    'options ndots:2 rotate edns0',
    'search a.example b.example',
    '# comment',
    '; comment',
    '',
    'sortlist',
  ),
  fc.string().filter((line) => !line.includes('\n') && !line.startsWith('# zerohop:')),
);
const anyText = fc.array(anyLine).map((lines) => lines.join('\n'));

test('resolv.conf is read as glibc reads it: keywords at the beginning of a line', () => {
  const text =
    'nameserver 192.0.2.1\nnameserver\tfe80::1%eth0 # why\n nameserver 192.0.2.2\n#nameserver 192.0.2.3\nnameserver\noptions a  b\noptions c\n';
  assert.deepEqual(readResolvConf(text), {
    nameservers: ['192.0.2.1', 'fe80::1%eth0'],
    options: ['a', 'b', 'c'],
  });
});

test('a server ends at a comment or a CR, and is one however its address is written', () => {
  const text = 'nameserver 192.0.2.1# why\nnameserver 192.0.2.2;\nnameserver 192.0.2.3\r\n';
  const { nameservers } = readResolvConf(text);
  assert.deepEqual(nameservers, ['192.0.2.1', '192.0.2.2', '192.0.2.3']);
  const texts = ['0:0::1', 'FE80::0:1%eth0', '::ffff:192.0.2.1', '192.0.2.1'];
  assert.deepEqual(texts.map(serverAddress), ['::1', 'fe80::1%eth0', '192.0.2.1', '192.0.2.1']);
  for (const none of ['foo', '', '192.0.2', '192.0.2.1\r', '192.0.2.1%eth0', 'fe80::1%', '%eth0'])
    assert.equal(serverAddress(none), undefined, none);
});

test('the servers of this host are addresses, each once, without the stub and ourselves', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'zh-upstreams-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const paths = { resolvConf: join(directory, 'one'), resolved: join(directory, 'two') };
  const lines = ['0:0:0:0:0:0:0:1', 'foo', '192.0.2.9\r', '::ffff:127.0.0.53', '2001:DB8:0::1'];
  writeFileSync(paths.resolvConf, lines.map((line) => `nameserver ${line}\n`).join(''));
  writeFileSync(paths.resolved, 'nameserver 2001:db8::1\nnameserver fe80::0:1%2\n');
  const hosts = hostUpstreams((host) => host === '::1', paths).map(({ host }) => host);
  assert.deepEqual(hosts, ['192.0.2.9', '2001:db8::1', 'fe80::1%2']);
});

test('whatever a resolv.conf says, our lines come out of it as they went in, and we are asked first', () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const pointed = pointedAtUs(text, { address: '127.0.0.55', mark: 'word' });
      assert.deepEqual(withoutOwnLines(pointed), { rest: text, mark: 'word' });
      const { nameservers, options } = readResolvConf(pointed);
      const before = readResolvConf(text);
      assert.deepEqual(nameservers, ['127.0.0.55', ...before.nameservers]);
      assert.ok(!options.includes('rotate'));
      for (const option of before.options)
        assert.ok(option === 'rotate' || options.includes(option));
      assert.equal(pointedAtUs(text, { address: '127.0.0.55', mark: 'word' }), pointed);
    }),
  );
});

test('without the mark at their end no more than our lines is ours', () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const pointed = pointedAtUs(text, { address: '127.0.0.55', mark: 'word' });
      const cut = pointed.replace('# zerohop: end\n', '');
      assert.deepEqual(withoutOwnLines(cut), { rest: text, mark: 'word' });
    }),
  );
  const two = 'nameserver 192.0.2.1\nnameserver 192.0.2.2\n';
  const begin = '# zerohop: begin word (x)\nnameserver 127.0.0.55\n';
  assert.deepEqual(withoutOwnLines(begin + two), { rest: two, mark: 'word' });
  const shell = `name_servers="127.0.0.55 $name_servers"\nresolv_conf_local_only=NO\n`;
  const lines = [...shell.trim().split('\n'), 'name_servers="192.0.2.1 $name_servers"'];
  const made = withOwnLines('', { lines: lines.slice(0, 2), mark: 'word', at: 'end' });
  assert.deepEqual(withoutOwnLines(made.replace('# zerohop: end', lines[2] ?? '')), {
    rest: `${lines[2]}\n`,
    mark: 'word',
  });
});

test('our server is known without our marks by our options, or before the very servers that were there', () => {
  const isHere = (host: string): boolean => host === '127.0.0.55';
  const found = (text: string, before: string): string | undefined =>
    serverWithoutMarks(text, { before, isHere });
  const before = 'search a.example\nnameserver 192.0.2.1\n';
  const kept = 'nameserver 127.0.0.55\nnameserver 192.0.2.1\n';
  assert.equal(found(kept, before), '127.0.0.55');
  assert.equal(found(kept, kept), undefined, 'it was there before');
  assert.equal(found(kept.replace('127.0.0.55', '192.0.2.8'), before), undefined, 'not ours');
  assert.equal(found('nameserver 127.0.0.55\n', before), undefined, 'one of somebody else');
  const options = 'nameserver 192.0.2.8\noptions timeout:1 attempts:2 edns0\n';
  assert.equal(found(options, before), '192.0.2.8');
  assert.equal(withoutServer(`${options}${before}`, '192.0.2.8'), before);
});

test('lines at the end of a file come out of it, but for the end of its last line', () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const made = withOwnLines(text, { lines: ['one', 'two'], mark: 'word', at: 'end' });
      const { rest, mark } = withoutOwnLines(made);
      assert.equal(mark, 'word');
      assert.ok(rest === text || rest === `${text}\n`);
    }),
  );
});

test('the reverse zones of a block are those that are in it, whole', () => {
  assert.deepEqual(reverseZones(cidr('10.1.0.0/16')), ['1.10.in-addr.arpa']);
  assert.deepEqual(reverseZones(cidr('10.1.2.0/23')), [
    '2.1.10.in-addr.arpa',
    '3.1.10.in-addr.arpa',
  ]);
  assert.deepEqual(reverseZones(cidr('10.1.2.3/32')), ['3.2.1.10.in-addr.arpa']);
  assert.deepEqual(reverseZones(cidr('0.0.0.0/0')), ['in-addr.arpa']);
  assert.equal(reverseZones(cidr('240.0.0.0/4')).length, 16);
  assert.equal(reverseZones(cidr('240.0.0.0/4'))[15], '255.in-addr.arpa');
  assert.deepEqual(reverseZones(cidr('fd00:12::/32')), ['2.1.0.0.0.0.d.f.ip6.arpa']);
  assert.deepEqual(reverseZones(cidr('fc00::/7')), ['c.f.ip6.arpa', 'd.f.ip6.arpa']);
});

test('who may ask for names of others: the blocks, and the addresses that this host has', () => {
  const allowed = new Allowed([cidr('127.0.0.0/8'), cidr('192.0.2.0/24'), cidr('fd00::/16')]);
  assert.deepEqual(
    ['127.0.0.1', '192.0.2.9', '192.0.3.9', 'fd00::1', 'fd01::1', '10.0.0.7', ''].map((client) =>
      allowed.has(client),
    ),
    [true, true, false, true, false, false, false],
  );
  allowed.setOwn(['10.0.0.7', 'fe80::1%eth0']);
  assert.deepEqual(
    ['10.0.0.7', 'fe80::1%eth0', 'fe80::2%eth0'].map((client) => allowed.has(client)),
    [true, true, false],
  );
  allowed.setOwn([]);
  assert.equal(allowed.has('10.0.0.7'), false, 'not any more');
});

test('a message that comes byte by byte is kept in a few pieces', () => {
  const message = Uint8Array.from({ length: 5000 }, (_, i) => i);
  const reader = new FrameReader();
  let chunksMax = 0;
  for (const byte of frame(message)) {
    reader.push(Uint8Array.of(byte));
    chunksMax = Math.max(chunksMax, reader.chunks);
  }
  assert.deepEqual([reader.kept, chunksMax], [5002, 64]);
  assert.deepEqual(reader.next(), message);
  assert.deepEqual([reader.kept, reader.chunks, reader.next()], [0, 0, undefined]);
});

test('messages on a stream come out as they went in, wherever it is cut', () => {
  const anyMessages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });
  fc.assert(
    fc.property(anyMessages, fc.array(fc.nat(40)), (messages, cuts) => {
      const stream = Buffer.concat(messages.map(frame));
      const reader = new FrameReader();
      const read: Uint8Array[] = [];
      let at = 0;
      for (const cut of [...cuts, stream.length]) {
        reader.push(stream.subarray(at, at + cut));
        at += cut;
        for (let one = reader.next(); one !== undefined; one = reader.next())
          read.push(Uint8Array.from(one));
      }
      assert.deepEqual(read, messages);
      assert.equal(reader.kept, 0);
    }),
  );
});
