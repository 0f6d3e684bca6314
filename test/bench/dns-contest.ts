/** The resolvers that have the same names, and what they are called in tables. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TestHost } from '../harness/host.ts';
import { answering } from './dns-asker.ts';
import {
  namedAt,
  NotHere,
  type Server,
  type ServerKind,
  startServer,
  type Work,
} from './dns-servers.ts';

export const LOCAL_KINDS = ['unbound', 'dnsmasq', 'naive', 'zerohop', 'zerohop-kernel'] as const;

export const titles: Readonly<Record<ServerKind, string>> = {
  unbound: 'unbound',
  dnsmasq: 'dnsmasq',
  dnsdist: 'dnsdist firstAvailable',
  naive: 'Node and dns-packet, 30 lines',
  zerohop: 'zerohop, user space alone',
  'zerohop-kernel': 'zerohop, answered in the kernel',
};

export interface Contest {
  readonly servers: readonly { readonly kind: ServerKind; readonly server: Server }[];
  readonly work: Work & { readonly kind: 'names' };
  /** Why a server is not among them. */
  readonly missing: ReadonlyMap<ServerKind, string>;
}

/** The one that all are compared with. */
export const baseOf = ({ servers }: Contest): number =>
  Math.max(
    0,
    servers.findIndex(({ kind }) => kind === 'unbound'),
  );

export async function openContest(
  count: number,
  kinds: readonly ServerKind[],
  hosts: AsyncDisposableStack,
): Promise<Contest> {
  const names = Array.from({ length: count }, (_, n) => namedAt(n));
  const servers: { kind: ServerKind; server: Server }[] = [];
  const missing = new Map<ServerKind, string>();
  let file = '';
  for (const kind of kinds) {
    const host = hosts.use(await TestHost.create());
    if (file === '') {
      file = join(host.dir, 'names');
      writeFileSync(file, names.map(({ name, address }) => `${name} ${address}\n`).join(''));
    }
    try {
      const server = await startServer(kind, host, { kind: 'names', names, file });
      await answering(server, file);
      servers.push({ kind, server });
    } catch (error) {
      if (!(error instanceof NotHere)) throw error;
      missing.set(kind, error.message);
    }
  }
  return { servers, work: { kind: 'names', names, file }, missing };
}

export const perSecond = (rate: number): string => Math.round(rate).toLocaleString('en');
