/** What a host's kernel does with VIPs, read from its pinned maps in this process: its agent is not asked. */
import { readFrontends } from '../../src/datapath/io/inspect.ts';
import { Pins } from '../../src/datapath/io/pins.ts';
import type { Frontend } from './alike.ts';
import type { TestHost } from './host.ts';

export function readMaps(host: TestHost): Frontend[] {
  return readFrontends(new Pins(host.pinDir));
}

/** Where connects to any VIP of a family of this service go: each ADDR:PORT once, sorted. */
export function backendsOf(
  frontends: readonly Frontend[],
  service: string,
  family: 4 | 6,
): string[] {
  const ofFamily = (at: string): boolean => at.startsWith('[') === (family === 6);
  const all = frontends
    .filter((frontend) => frontend.service === service && ofFamily(frontend.vip))
    .flatMap(({ backends }) => backends);
  const used = all.filter(({ sharePercent }) => sharePercent > 0);
  return [...new Set(used.map(({ address }) => address))].toSorted();
}
