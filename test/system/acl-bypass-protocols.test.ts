/**
 * Other protocols than TCP and UDP, towards a block that a rule without ports
 * closes. BPF LSM sees them all; the cgroup hooks see those that have one, and
 * `zerohop doctor` names the rest.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { run } from '../harness/child.ts';
import { modes, Stage, type Who } from './attacks/stage.ts';

const web: Who = { cgroup: 'web.service' };
const other: Who = { cgroup: 'other.service' };

const closed = {
  kind: 'acl',
  name: 'closed',
  to: { cidr: '127.0.0.7/32' },
  from: [{ unit: 'web.service' }],
  action: 'allow',
};
const closed6 = { ...closed, name: 'closed6', to: { cidr: '2001:db8::1/128' } };

/** Attempts that end well when nothing is in the way, and whether a cgroup hook sees each. */
const protocols: readonly { attempt: string; reaches: string; hooked: boolean }[] = [
  { attempt: 'raw.sendto=127.0.0.7,0', reaches: 'raw', hooked: false },
  { attempt: 'raw.sendmsg=127.0.0.7,0', reaches: 'raw', hooked: false },
  { attempt: 'raw.sendto+unspec=127.0.0.7,0', reaches: 'raw', hooked: false },
  { attempt: 'raw.connect=127.0.0.7,0', reaches: 'raw', hooked: false },
  { attempt: 'raw.uring-sendmsg=127.0.0.7,0', reaches: 'raw', hooked: false },
  { attempt: 'rawudp.sendto=127.0.0.7,53', reaches: 'dns', hooked: false },
  { attempt: 'rawhdr.sendto=127.0.0.7,53', reaches: 'dns', hooked: false },
  { attempt: 'ping.sendto=127.0.0.7,0', reaches: '', hooked: false },
  { attempt: 'sctp.connect=127.0.0.7,7000', reaches: 'sctp', hooked: false },
  { attempt: 'sctp.sendto=127.0.0.7,7000', reaches: 'sctp', hooked: false },
  { attempt: 'sctp.connectx=127.0.0.7,7000', reaches: 'sctp', hooked: false },
  { attempt: 'udplite.sendto=127.0.0.7,54', reaches: 'lite', hooked: true },
  { attempt: 'udplite.connect=127.0.0.7,54', reaches: 'lite', hooked: false },
  { attempt: 'udp.sendto=127.0.0.7,53', reaches: 'dns', hooked: true },
];

for (const { mode, options } of modes()) {
  test(
    `${mode}: every protocol that the kernel shows is judged by rules without ports`,
    options,
    async (t) => {
      await using stage = await Stage.create(mode);
      await run(['modprobe', '-aq', 'sctp', 'udplite']).catch(() => ''); // built in, or missing: the attempts say so
      const missing = await stage.witnesses(
        'raw=raw,127.0.0.7,0',
        'dns=udp,127.0.0.7,53',
        'sctp=sctp,127.0.0.7,7000',
        'lite=udplite,127.0.0.7,54',
      );
      t.diagnostic(`this kernel has no ${missing.join() || 'lack of any'}`);
      const usable = protocols.filter(({ reaches }) => !missing.includes(reaches));
      const open = Object.fromEntries(usable.map(({ attempt, reaches }) => [attempt, reaches]));
      await stage.expect(other, open);
      // Nobody listens there, so that nobody is kept waiting.
      const second = ['sctp.connectx2=127.0.0.7,7001,127.0.0.9,7001'];
      const sctp = mode === 'lsm' && !missing.includes('sctp');
      if (sctp) assert.notDeepEqual(await stage.tries(other, second), ['EPERM']);
      await stage.apply(closed, closed6);
      if (sctp) assert.deepEqual(await stage.tries(other, second), ['EPERM']);
      const judged = usable.filter(({ hooked }) => mode === 'lsm' || hooked);
      const denied = Object.fromEntries(judged.map(({ attempt }) => [attempt, 'EPERM']));
      await stage.expect(other, denied);
      await stage.expect(web, open);
      // An address next to it is as open as ever.
      const beside = { 'udp.sendto=127.0.0.8,53': 'ECONNREFUSED' };
      assert.notDeepEqual(await stage.tries(other, Object.keys(beside)), ['EPERM']);
      for (const [attempt, why] of stage.missing) t.diagnostic(`${attempt}: ${why}`);
    },
  );

  test(`${mode}: doctor names what is not covered`, options, async () => {
    await using stage = await Stage.create(mode);
    const { stdout } = await stage.host.zerohop('doctor');
    assert.match(stdout, /packet sockets/);
    if (mode === 'cgroup') assert.match(stdout, /raw, SCTP/);
    const status = await stage.host.must('status');
    assert.match(status.stdout, mode === 'cgroup' ? /cgroup hooks only/ : /BPF LSM/);
  });
}
