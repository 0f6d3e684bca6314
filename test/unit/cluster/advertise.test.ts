/** Which address others dial, and which ones are the host's own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProblemError } from '../../../src/state/problem.ts';
import {
  advertisedAddress,
  hostAddresses,
  reachedAt,
  type Interface,
} from '../../../src/cluster/advertise.ts';

const at = (name: string, address: string, internal = false): Interface => {
  return { name, address, internal };
};
const LO = [at('lo', '127.0.0.1', true), at('lo', '::1', true)];
const ANY4 = { host: '0.0.0.0', port: 7946 };
const ANY = { host: '::', port: 7946 };

test('an address that is listened on is the one to dial', () => {
  const bound = { host: '10.0.0.7', port: 1234 };
  assert.equal(advertisedAddress(undefined, bound, LO), '10.0.0.7:1234');
  const six = { host: 'fd00::7', port: 1234 };
  assert.equal(advertisedAddress(undefined, six, LO), '[fd00::7]:1234');
});

test('for any address the first global one is chosen, IPv4 before IPv6', () => {
  const host = [
    ...LO,
    at('eth0', 'fe80::1'),
    at('eth0', '169.254.3.4'),
    at('eth0', '2001:db8::7'),
    at('eth0', '10.0.0.7'),
    at('eth1', '10.1.0.7'),
  ];
  assert.equal(advertisedAddress(undefined, ANY4, host), '10.0.0.7:7946');
  assert.equal(advertisedAddress(undefined, ANY, host), '10.0.0.7:7946');
  const six = [...LO, at('eth0', 'fe80::1'), at('eth0', 'FD00:0::7')];
  assert.equal(advertisedAddress(undefined, ANY, six), '[fd00::7]:7946');
  assert.equal(advertisedAddress(undefined, ANY4, six), undefined, 'nobody listens on IPv6 there');
});

test('addresses of containers and virtual machines come last, also after IPv6', () => {
  for (const name of ['docker0', 'br-0123456789ab', 'virbr0', 'veth12ab', 'cni0', 'lxcbr0']) {
    const host = [at(name, '172.17.0.1'), at('eth0', 'fd00::7')];
    assert.equal(advertisedAddress(undefined, ANY, host), '[fd00::7]:7946', name);
    assert.equal(
      advertisedAddress(undefined, ANY, [...LO, at(name, '172.17.0.1')]),
      '172.17.0.1:7946',
    );
  }
  const bridge = [at('docker0', '172.17.0.1'), at('br-lan', '10.0.0.7')];
  assert.equal(advertisedAddress(undefined, ANY4, bridge), '10.0.0.7:7946');
});

test('where every address is the own affair of the host there is none', () => {
  assert.equal(advertisedAddress(undefined, ANY, [...LO, at('eth0', 'fe80::1%eth0')]), undefined);
  assert.equal(advertisedAddress(undefined, ANY, []), undefined);
});

test('what is configured is taken, with the port that is listened on where it names none', () => {
  const given = (text: string): string | undefined => advertisedAddress(text, ANY, LO);
  assert.equal(given('192.0.2.1'), '192.0.2.1:7946');
  assert.equal(given('192.0.2.1:80'), '192.0.2.1:80');
  assert.equal(given('fd00::0007'), '[fd00::7]:7946');
  assert.equal(given('[fd00::7]'), '[fd00::7]:7946');
  assert.equal(given('[fd00:0::7]:80'), '[fd00::7]:80');
  for (const bad of ['host.example', 'host.example:80', '10.0.0.7:70000', ''])
    assert.throws(() => given(bad), ProblemError, bad);
});

test('the addresses of a host are those by which others mean it, each once and in order', () => {
  const host = [
    ...LO,
    at('eth0', 'fe80::1'),
    at('eth0', '10.0.0.7'),
    at('docker0', '172.17.0.1'),
    at('eth1', '10.0.0.7'),
    at('eth1', 'FD00::0:7'),
  ];
  assert.deepEqual(hostAddresses(host), ['10.0.0.7', '172.17.0.1', 'fd00::7']);
  const many = Array.from({ length: 400 }, (_, i) => at('eth0', `10.0.${i >> 8}.${i & 255}`));
  assert.equal(hostAddresses(many).length, 256);
});

test('programs are reached at the address that members dial, and at one of the other family beside it', () => {
  const host = [
    ...LO,
    at('docker0', '172.17.0.1'),
    at('eth1', 'fd01::7'),
    at('eth0', 'fe80::1'),
    at('eth0', '10.0.0.7'),
    at('eth0', 'FD00:0::7'),
  ];
  assert.deepEqual(reachedAt('10.0.0.7:7946', host), ['10.0.0.7', 'fd00::7']);
  assert.deepEqual(reachedAt('[fd00::7]:7946', host), ['fd00::7', '10.0.0.7']);
  assert.deepEqual(reachedAt('[fd01::7]:7946', host), ['fd01::7'], 'none on that interface');
  assert.deepEqual(reachedAt('198.51.100.1:7946', host), ['198.51.100.1'], 'behind NAT');
  assert.deepEqual(reachedAt('127.0.0.1:7946', host), ['127.0.0.1']);
});
