/** An AclEngine without a kernel: counts nothing, and says what a test told it to. */
import type { AclLogEntry } from '../../../src/acl/event.ts';
import type {
  AclLogAnswer,
  AclStatusAnswer,
  AclTestAnswer,
  AclTestBody,
} from '../../../src/api/acl-schemas.ts';
import type { AclCounters, AclEngine, AclFollower } from '../../../src/api/engine.ts';

export const denial: AclLogEntry = {
  time: '2026-01-01T00:00:00.000Z',
  verdict: 'deny',
  rule: 'only-web',
  workload: {
    cgroup: '/system.slice/other.service',
    unit: 'other.service',
    pid: 42,
    command: 'curl',
    user: 'deploy',
    uid: 1000,
    gid: 100,
  },
  destination: {
    address: '10.0.0.1:6379',
    port: 6379,
    protocol: 'tcp',
    service: 'redis.prod',
    portName: 'main',
  },
  via: '240.0.0.1:6379',
  hook: 'cgroup/connect',
};

export class FakeAcls implements AclEngine {
  entries: AclLogEntry[] = [];
  /** What status() says: rules, and how many of everything that it counts. */
  rules = 1;
  lost = 0;
  readonly followers = new Set<AclFollower>();
  questions: AclTestBody[] = [];
  answer: AclTestAnswer = { allowed: true, subject: {}, targets: [], notes: [] };

  status(): AclStatusAnswer {
    return {
      enforcement: 'cgroup',
      enforcementText: 'cgroup hooks only',
      why: 'a test',
      notCovered: ['raw sockets'],
      state: 'active',
      defaultAction: 'allow',
      rules: this.rules,
      generation: 1,
      counters: {
        eventsDropped: this.lost,
        unknownCgroups: this.lost,
        unclassifiedCgroups: this.lost,
      },
    };
  }

  counters(): AclCounters {
    return { denied: 3, allowed: 2, audited: 1 };
  }

  deniedByDefault(): number {
    return 0;
  }

  warnings(rule: string): readonly string[] {
    return rule === 'ghost' ? ['there is no user "nobody-here": it selects nobody'] : [];
  }

  async test(question: AclTestBody): Promise<AclTestAnswer> {
    this.questions.push(question);
    return await Promise.resolve(this.answer);
  }

  log(limit: number, rule: string | undefined): AclLogAnswer {
    const entries = this.entries.filter((entry) => rule === undefined || entry.rule === rule);
    return {
      entries: limit === 0 ? [] : entries.slice(-limit),
      seen: this.entries.length,
      dropped: 0,
    };
  }

  follow(follower: AclFollower): () => void {
    this.followers.add(follower);
    return () => void this.followers.delete(follower);
  }
}
