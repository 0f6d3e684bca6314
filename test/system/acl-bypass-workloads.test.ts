/**
 * Who a process is: attempts to be judged as somebody else, by passing sockets,
 * moving between cgroups, being born into new ones, or changing users. Each has
 * its control: the same by somebody who may.
 */
import assert from 'node:assert/strict';
import { chmodSync, chownSync, copyFileSync, mkdirSync, rmdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { attackClient, bornClient } from '../harness/programs.ts';
import { echoes } from '../harness/servers.ts';
import { modes, Stage, type Who } from './attacks/stage.ts';

const web: Who = { cgroup: 'web.service' };
const other: Who = { cgroup: 'other.service' };

const redis = {
  kind: 'service',
  name: 'redis',
  vips: ['240.0.0.1'],
  ports: [
    { name: 'main', port: 6379 },
    { name: 'dns', port: 53, protocol: 'udp' },
  ],
  backends: [
    { address: '127.0.0.1:6379', portName: 'main' },
    { address: '127.0.0.1:53', portName: 'dns' },
  ],
};
const onlyWeb = {
  kind: 'acl',
  name: 'only-web',
  to: { service: 'redis' },
  from: [{ unit: 'web.service' }],
  action: 'allow',
};

async function guarded(mode: 'cgroup' | 'lsm'): Promise<Stage> {
  const stage = await Stage.create(mode);
  try {
    await stage.witnesses('redis=tcp,127.0.0.1,6379', 'dns=udp,127.0.0.1,53');
    await stage.apply(redis, onlyWeb);
    return stage;
  } catch (error) {
    await stage[Symbol.asyncDispose]();
    throw error;
  }
}

/** Every way to the guarded server, for the socket that a process holds. */
const ways = [
  { kind: 'tcp4', dial: 'dial=127.0.0.1,6379', server: 'redis' },
  { kind: 'tcp4', dial: 'dial=240.0.0.1,6379', server: 'redis' },
  { kind: 'tcp6', dial: 'dial=::ffff:127.0.0.1,6379', server: 'redis' },
  { kind: 'udp4', dial: 'send=127.0.0.1,53', server: 'dns' },
  { kind: 'udp4', dial: 'send=240.0.0.1,53', server: 'dns' },
  { kind: 'udp6', dial: 'send=::ffff:127.0.0.1,53', server: 'dns' },
] as const;

for (const { mode, options } of modes()) {
  test(`${mode}: a socket that was passed on is judged by who dials`, options, async () => {
    await using stage = await guarded(mode);
    const [A, B] = [stage.cgroup('web.service'), stage.cgroup('other.service')];
    for (const { kind, dial, server } of ways) {
      const made = await stage.moves(`go=${B}`, `got=${kind},${A}`, dial);
      assert.deepEqual(made, ['EPERM'], `${kind} made by web, ${dial} by other`);
      const reverse = await stage.moves(`go=${A}`, `got=${kind},${B}`, dial);
      assert.deepEqual(reverse, [server], `${kind} made by other, ${dial} by web`);
      const child = await stage.moves(`go=${A}`, `make=${kind}`, `fork=${B}`, dial);
      assert.deepEqual(child, ['EPERM'], `${kind} of web, ${dial} by its child in other`);
    }
  });

  test(`${mode}: a process that moves is judged where it is`, options, async () => {
    await using stage = await guarded(mode);
    const [A, B] = [stage.cgroup('web.service'), stage.cgroup('other.service')];
    const allThree = ['redis', 'redis', 'dns'];
    const none = ['EPERM', 'EPERM', 'EPERM'];
    const both = ['tcp=240.0.0.1,6379', 'tcp=127.0.0.1,6379', 'udp=127.0.0.1,53'];
    assert.deepEqual(
      await stage.moves(`go=${A}`, ...both, `go=${B}`, ...both, `go=${A}`, ...both),
      [...allThree, ...none, ...allThree],
    );
    // One unconnected socket that has talked to the VIP already.
    const sends = ['send=240.0.0.1,53', 'send=127.0.0.1,53'];
    assert.deepEqual(
      await stage.moves(`go=${A}`, 'make=udp4', ...sends, `go=${B}`, ...sends, `go=${A}`, ...sends),
      ['dns', 'dns', 'EPERM', 'EPERM', 'dns', 'dns'],
    );
  });

  test(`${mode}: a thread in a cgroup of its own is judged there`, options, async () => {
    await using stage = await guarded(mode);
    // A threaded subtree: its root is a domain, the threads' cgroups are below.
    const root = stage.cgroup('threads.slice');
    const [A, B] = [
      stage.cgroup('threads.slice/web.service'),
      stage.cgroup('threads.slice/other.service'),
    ];
    for (const path of [A, B]) await stage.host.output(threaded(path));
    const dial = 'tcp=127.0.0.1,6379';
    assert.deepEqual(await stage.moves(`thread=${root},${A}`, dial), ['redis']);
    assert.deepEqual(await stage.moves(`thread=${root},${B}`, dial), ['EPERM']);
  });

  test(`${mode}: a cgroup made by a denied one is denied, whatever its name`, options, async () => {
    await using stage = await guarded(mode);
    await stage.apply({
      kind: 'acl',
      name: 'not-batch',
      to: { service: 'redis' },
      from: [{ cgroup: '$HOST/batch' }],
      action: 'deny',
    });
    const dial = { 'tcp.connect=127.0.0.1,6379': 'EPERM', 'udp.sendto=240.0.0.1,53': 'EPERM' };
    for (const name of ['other.service/web.service', 'batch/web.service', 'batch/x/y', 'batch']) {
      await stage.expect({ cgroup: name }, dial);
      // Made by a process in the denied cgroup itself.
      const parent = join(stage.host.cgroup, dirname(name));
      mkdirSync(parent, { recursive: true });
      await stage.host.output(
        shell(`echo 0 >"$0/cgroup.procs" && mkdir "$0/web.service.own"`, join(stage.cgroup(name))),
      );
      await stage.expect({ cgroup: `${name}/web.service.own` }, dial);
    }
    await stage.expect(web, { 'tcp.connect=127.0.0.1,6379': 'redis' });
  });

  test(
    `${mode}: of 1,000 processes born into new cgroups none slips through and none is wrongly refused`,
    options,
    async () => {
      await using stage = await Stage.create(mode);
      const { echoes: made } = await echoes(stage.host, { name: 'redis', port: 6379 });
      assert.equal(made.length, 1);
      await stage.apply(redis, {
        ...onlyWeb,
        from: [{ unit: 'job-*.service' }, { cgroup: '$HOST/batch/*' }],
      });
      await stage.apply({
        kind: 'acl',
        name: 'not-these',
        to: { service: 'redis' },
        from: [{ cgroup: '$HOST/batch/not-*' }],
        action: 'deny',
      });
      stage.cgroup('batch');
      const at = (name: string): string => join(stage.host.cgroup, name);
      const names = ['job-%d.service', 'odd-%d.service', 'batch/yes-%d', 'batch/not-%d'].map(at);
      const born = await bornClient();
      for (const addr of ['127.0.0.1', '240.0.0.1']) {
        const said = await stage.host.output([born, '250', addr, '6379', ...names]);
        assert.deepEqual(JSON.parse(said), {
          [names[0] ?? '']: { ok: 250 },
          [names[1] ?? '']: { EPERM: 250 },
          [names[2] ?? '']: { ok: 250 },
          [names[3] ?? '']: { EPERM: 250 },
        });
      }
    },
  );

  test(
    `${mode}: with the agent killed, new cgroups and restarted units are judged`,
    options,
    async () => {
      await using stage = await guarded(mode);
      const both = (verdict: string, udp: string): Record<string, string> => ({
        'tcp.connect=240.0.0.1,6379': verdict,
        'tcp.connect=127.0.0.1,6379': verdict,
        'udp.sendto=127.0.0.1,53': udp,
        'tcp.fastopen=127.0.0.1,6379': verdict,
      });
      await stage.expect(web, both('redis', 'dns'));
      await stage.expect(other, both('EPERM', 'EPERM'));
      await stage.host.agent.kill('SIGKILL');
      // Those that were there,
      await stage.expect(web, both('redis', 'dns'));
      await stage.expect(other, both('EPERM', 'EPERM'));
      // those that are new,
      await stage.expect({ cgroup: 'new.slice/web.service' }, both('redis', 'dns'));
      await stage.expect({ cgroup: 'new.slice/other.service' }, both('EPERM', 'EPERM'));
      await stage.expect({ cgroup: 'other.service/web.service' }, both('EPERM', 'EPERM'));
      // and units that are started anew: same name, another cgroup.
      rmdirSync(join(stage.host.cgroup, 'web.service'));
      rmdirSync(join(stage.host.cgroup, 'other.service/web.service'));
      rmdirSync(join(stage.host.cgroup, 'other.service'));
      await stage.expect(web, both('redis', 'dns'));
      await stage.expect(other, both('EPERM', 'EPERM'));
      // The next agent finds all as it is.
      await stage.host.agent.start({ config: stage.config });
      await stage.expect(web, both('redis', 'dns'));
      await stage.expect(other, both('EPERM', 'EPERM'));
      await stage.expect({ cgroup: 'new.slice/web.service' }, both('redis', 'dns'));
    },
  );

  test(`${mode}: programs with the set-user-ID bit do not lend their user`, options, async () => {
    await using stage = await guarded(mode);
    await stage.apply({
      ...onlyWeb,
      from: [{ user: 4001 }, { group: 5001 }],
    });
    const client = await attackClient();
    for (const [name, uid, gid, mode] of [
      ['suid', 4001, 0, 0o4755],
      ['sgid', 0, 5001, 0o2755],
      ['plain', 0, 0, 0o755],
    ] as const) {
      const copy = join(stage.host.dir, name);
      copyFileSync(client, copy);
      chownSync(copy, uid, gid);
      chmodSync(copy, mode);
    }
    chmodSync(stage.host.dir, 0o755);
    const dial = ['tcp.connect=127.0.0.1,6379', 'tcp.connect=240.0.0.1,6379'];
    for (const name of ['suid', 'sgid', 'plain']) {
      const wrapper = [join(stage.host.dir, name)];
      assert.deepEqual(
        await stage.program({ user: 4003 }, wrapper, dial),
        ['EPERM', 'EPERM'],
        name,
      );
      assert.deepEqual(
        await stage.program({ user: 4001 }, wrapper, dial),
        ['redis', 'redis'],
        name,
      );
    }
    // Only the effective ids are another's.
    const seteuid =
      'import os,sys; os.setegid(5001); os.seteuid(4001); os.execv(sys.argv[1], sys.argv[1:])';
    const pretend = ['/usr/bin/python3', '-c', seteuid, client];
    assert.deepEqual(await stage.program({}, pretend, dial), ['EPERM', 'EPERM']);
    const really = ['setpriv', '--reuid=4001', '--regid=4001', '--clear-groups', client];
    assert.deepEqual(await stage.program({}, really, dial), ['redis', 'redis']);
  });
}

const shell = (script: string, ...args: readonly string[]): string[] => [
  'sh',
  '-c',
  script,
  ...args,
];

const threaded = (path: string): string[] => shell('echo threaded >"$0/cgroup.type"', path);
