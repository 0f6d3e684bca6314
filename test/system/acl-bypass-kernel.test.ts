/**
 * The kernel's own sockets: an NFS client whose server a rule closes is neither
 * broken by EPERM nor sent into a loop that eats a CPU (cilium#33395).
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { cgroup2Root } from '../harness/cgroup.ts';
import { run } from '../harness/child.ts';
import { eventually } from '../harness/eventually.ts';
import { modes, Stage, type Who } from './attacks/stage.ts';

const other: Who = { cgroup: 'other.service' };

/** Clock ticks (10 ms) that kernel threads have used: utime + stime of proc(5), stat. */
function kernelTicks(): number {
  let ticks = 0;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    let stat: string;
    try {
      stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    } catch {
      continue; // gone meanwhile
    }
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // From the third field on: state, parent (2 is kthreadd), …
    if (fields[1] === '2') ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks;
}

/** Kernel threads are in the root cgroup, so the agent has to be there: on a machine of its own. */
function whyNotHere(): string | undefined {
  if (!existsSync('/.vm')) return 'attaches to the root cgroup: only in a guest of scripts/vm';
  // The root of cgroup2 has the id 1, a cgroup namespace another one.
  if (statSync(cgroup2Root()).ino !== 1)
    return 'needs the real root cgroup: scripts/vm run ROW node --test test/system/acl-bypass-kernel.test.ts';
  return undefined;
}

async function haveNfs(t: TestContext): Promise<boolean> {
  const why = whyNotHere();
  if (why !== undefined) {
    t.skip(why);
    return false;
  }
  const loaded = await run(['modprobe', 'nfsv4']).then(
    () => true,
    () => false,
  );
  if (!loaded) t.skip('this kernel has no NFS client (modprobe nfsv4 failed)');
  return loaded;
}

for (const { mode, options } of modes()) {
  test(
    `${mode}: an NFS mount from a closed server gets its connection, and does not spin`,
    options,
    async (t) => {
      if (!(await haveNfs(t))) return;
      // Kernel threads are in the root cgroup: only there their sockets meet the hooks.
      await using stage = await Stage.create(mode, { cgroup: cgroup2Root() });
      await stage.witnesses('nfs=tcp,127.0.0.1,2049');
      await stage.apply(
        {
          kind: 'service',
          name: 'nfs',
          vips: ['240.0.0.1'],
          ports: [{ port: 2049 }],
          backends: [{ address: '127.0.0.1:2049' }],
        },
        { kind: 'acl', name: 'nobody', to: { service: 'nfs' }, action: 'deny' },
      );
      await stage.expect(other, { 'tcp.connect=127.0.0.1,2049': 'EPERM' });
      await stage.expect(other, { 'tcp.connect=240.0.0.1,2049': 'EPERM' });
      for (const addr of ['127.0.0.1', '240.0.0.1']) {
        const folder = join(stage.host.dir, `nfs-${addr}`);
        mkdirSync(folder);
        const settings = `addr=${addr},vers=4.2,proto=tcp,port=2049,clientaddr=127.0.0.1,soft,retrans=1,timeo=30`;
        const mount = ['mount', '-i', '-t', 'nfs4', '-o', settings, `${addr}:/`, folder];
        const before = kernelTicks();
        const start = performance.now();
        const words = [...stage.become(other), 'unshare', '-m', ...mount];
        const child = stage.host.spawn(words);
        // The witness accepts, and does not speak NFS: the mount waits until it is killed.
        const accepted = await eventually(`${addr}: a connection of the kernel's`, async () => {
          const list = await stage.arrivals();
          return list.length > 0 ? list : undefined;
        });
        assert.equal(accepted[0]?.what, 'accept');
        await child.stop('SIGKILL', 60_000);
        const seconds = (performance.now() - start) / 1000;
        const used = (kernelTicks() - before) / 100;
        assert.ok(used < seconds / 2, `kernel threads used ${used} s of ${seconds} s`);
        await eventually('quiet', async () => (await stage.arrivals()).length === 0, {
          everyMs: 500,
        });
      }
      t.diagnostic((await stage.host.api('GET', '/v1/acls')).text);
    },
  );
}
