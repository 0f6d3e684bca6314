/** What a host's kernel does with VIPs, read from its pinned maps in this process: its agent is not asked. */
import { readFrontends } from '../../src/datapath/io/inspect.ts';
import { Pins } from '../../src/datapath/io/pins.ts';
import type { Frontend } from './alike.ts';
import type { TestHost } from './host.ts';

export function readMaps(host: TestHost): Frontend[] {
  return readFrontends(new Pins(host.pinDir));
}

export interface BackendAt {
  readonly address: string;
  readonly sharePercent: number;
}

/** The backends of a service, each once, that connects are sent to; sorted by address. */
export function backendsOf(frontends: readonly Frontend[], service: string): BackendAt[] {
  const shares = new Map<string, number>();
  for (const frontend of frontends)
    if (frontend.service === service)
      for (const { address, sharePercent } of frontend.backends)
        if (sharePercent > 0) shares.set(address, sharePercent);
  return [...shares]
    .map(([address, sharePercent]) => ({ address, sharePercent }))
    .toSorted((a, b) => (a.address < b.address ? -1 : 1));
}
