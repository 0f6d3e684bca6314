/** What the API says of the resolver where the configuration turns it off. */
import type { DnsEngine } from '../api/engine.ts';
import { ProblemError } from '../state/problem.ts';

function off(): never {
  const hint = 'take `enabled: false` out of the configuration, or --no-dns, and restart the agent';
  throw new ProblemError([{ code: 'unavailable', message: 'the resolver is off', hint }]);
}

export function dnsOff(domain: string): DnsEngine {
  return {
    zone: off,
    query: () => Promise.resolve().then(off),
    flush: off,
    read: () => undefined,
    status: () => ({
      enabled: false,
      domain,
      serial: 0,
      ready: false,
      names: 0,
      listeners: [],
      upstreams: [],
      cache: { entries: 0, bytes: 0, bytesMax: 0, hits: 0, misses: 0 },
      kernel: { state: 'off', why: 'the resolver is off', entries: 0 },
      counters: { requests: 0, rcodes: {}, from: {}, dropped: {} },
    }),
  };
}
