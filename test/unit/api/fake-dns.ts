/** A resolver that answers what a test lays down. */
import type { DnsQueryAnswer, DnsQuestion, DnsStatusAnswer } from '../../../src/api/dns-schemas.ts';
import type { DnsEngine } from '../../../src/api/engine.ts';
import type { DnsReading } from '../../../src/dns/counters.ts';

export class FakeDns implements DnsEngine {
  readonly questions: DnsQuestion[] = [];
  readonly flushed: (string | undefined)[] = [];
  /** Thrown by the next query(). */
  failure: Error | undefined;
  entries: ReturnType<DnsEngine['zone']>['entries'] = [
    { name: 'web.zerohop.internal', type: 'A', ttl: 5, data: '240.0.0.1', from: 'service' },
    { name: 'web.zerohop.internal', type: 'AAAA', ttl: 5, data: 'fd00::1', from: 'service' },
    { name: 'h1.node.zerohop.internal', type: 'A', ttl: 5, data: '10.0.0.1', from: 'node' },
    {
      name: 'web.zerohop.internal',
      type: 'A',
      ttl: 60,
      data: '192.0.2.1',
      from: 'record',
      hidden: 'the service web has this name',
    },
  ];
  answer: Omit<DnsQueryAnswer, 'question'> = {
    rcode: 'NOERROR',
    from: 'zone',
    authoritative: true,
    ms: 0.1,
    answers: [{ name: 'web.zerohop.internal', type: 'A', ttl: 5, data: '240.0.0.1' }],
    authority: [],
    additional: [],
    attempts: [],
  };
  state: DnsStatusAnswer = {
    enabled: true,
    domain: 'zerohop.internal',
    serial: 7,
    ready: true,
    names: 3,
    listeners: [{ address: '127.0.0.55:53', listening: true }],
    upstreams: [
      {
        address: '192.0.2.53:53',
        zones: [''],
        state: 'good',
        ms: 1.5,
        sent: 3,
        results: { good: 2, timeout: 1 },
      },
    ],
    cache: { entries: 2, bytes: 300, bytesMax: 16_777_216, hits: 4, misses: 3 },
    kernel: { state: 'active', entries: 3 },
    counters: {
      requests: 10,
      rcodes: { NOERROR: 9, NXDOMAIN: 1 },
      from: { zone: 3, cache: 4, upstream: 3 },
      dropped: {},
    },
  };

  /** For the metrics. */
  reading: DnsReading | undefined;

  read(): DnsReading | undefined {
    return this.reading;
  }

  status(): DnsStatusAnswer {
    return this.state;
  }

  zone(): ReturnType<DnsEngine['zone']> {
    return { domain: 'zerohop.internal', serial: 7, ready: true, entries: this.entries };
  }

  query(question: DnsQuestion): Promise<DnsQueryAnswer> {
    this.questions.push(question);
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) return Promise.reject(failure);
    return Promise.resolve({ question, ...this.answer });
  }

  flush(name?: string): number {
    this.flushed.push(name);
    return 2;
  }
}
