/**
 * Access control as one thing for the agent and its API: what is enforced and
 * how, counters, questions, and the log of verdicts. The policy itself is the
 * enforcer's.
 */
import { BpfMap, RingBuffer } from '../../../addon/index.ts';
import type {
  AclLogAnswer,
  AclStatusAnswer,
  AclTestAnswer,
  AclTestBody,
} from '../../api/acl-schemas.ts';
import type { AclCounters, AclEngine, AclFollower, MapFill } from '../../api/engine.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { limitOf, type AclMapName, type MapSizes } from '../../datapath/hooks.ts';
import type { StateSnapshot } from '../../state/records.ts';
import { ownerOfSelf } from '../../state/io/owners.ts';
import { CgroupPaths, cgroupMountOf } from './cgroups.ts';
import type { Enforcement } from './enforcement.ts';
import { Enforcer } from './enforcer.ts';
import { AclLog, type EventSource } from './events.ts';
import type { AclAttacher } from './generations.ts';
import { AclKernel } from './kernel.ts';
import { Names } from './names.ts';
import { answer } from './question.ts';

export interface AccessOptions {
  readonly enforcement: Enforcement;
  readonly defaultAction: 'allow' | 'deny';
  readonly sizes: MapSizes;
  readonly cgroupPath: string;
  readonly attacher: AclAttacher;
  readonly openMap: (name: AclMapName) => BpfMap;
  readonly snapshot: () => StateSnapshot;
  readonly catalog: () => Catalog;
}

/** Records of one tick; what a ring of 256 KiB holds is 2,700. */
const recordsPerTickMax = 2048;

class RingSource implements EventSource {
  readonly #kernel: AclKernel;
  readonly #ring: RingBuffer;
  #visit: (record: Uint8Array) => void = () => undefined;

  constructor(kernel: AclKernel) {
    this.#kernel = kernel;
    const map = kernel.map('zh_acl_events');
    this.#ring = new RingBuffer(map, (record) => this.#visit(record), {
      unref: true,
      recordsPerTurnMax: recordsPerTickMax,
    });
  }

  drain(visit: (record: Uint8Array) => void): void {
    this.#visit = visit;
    this.#ring.drain();
  }

  dropped(): number {
    return Number(this.#kernel.counts().dropped);
  }

  close(): void {
    this.#ring.close();
  }
}

export class Access implements AclEngine {
  readonly enforcer: Enforcer;
  readonly #options: AccessOptions;
  readonly #kernel: AclKernel;
  readonly #cgroupRoot: string;
  readonly #ring: RingSource;
  readonly #log: AclLog;
  /** Set by the agent: why what the kernel holds may not be the policy. */
  problem: string | undefined;

  constructor(options: AccessOptions) {
    this.#options = options;
    this.#kernel = new AclKernel((name) => options.openMap(name as AclMapName));
    this.#cgroupRoot = cgroupMountOf(options.cgroupPath);
    const paths = new CgroupPaths(this.#cgroupRoot, (id) => this.#kernel.place(id));
    const { pid, startTicks } = ownerOfSelf('');
    const { enforcement, defaultAction, sizes, attacher } = options;
    this.enforcer = new Enforcer({
      enforcement,
      defaultAction,
      sizes,
      attacher,
      kernel: this.#kernel,
      cgroupRoot: this.#cgroupRoot,
      agent: { tgid: pid, startTicks },
      learn: (id, path) => paths.learn(id, path),
    });
    this.#ring = new RingSource(this.#kernel);
    this.#log = new AclLog(this.#ring, new Names(this.enforcer, options.catalog, paths));
  }

  /** After the policy may have changed: idle hosts are not woken. */
  settle(): void {
    this.#log.run(this.enforcer.isPolicy);
  }

  close(): void {
    this.#log.run(false);
    this.#ring.close();
    this.#kernel.close();
  }

  status(): AclStatusAnswer {
    const { enforcement, defaultAction } = this.#options;
    const { compiled, isPolicy, generation } = this.enforcer;
    const { dropped, unknown, unclassed } = this.#kernel.counts();
    const problem = this.#problem(Number(unclassed));
    return {
      enforcement: enforcement.name,
      enforcementText: enforcement.text,
      why: enforcement.why,
      notCovered: [...enforcement.notCovered],
      state: !isPolicy
        ? problem === undefined
          ? 'idle'
          : 'degraded'
        : enforcement.name === 'none'
          ? 'unenforced'
          : problem === undefined
            ? 'active'
            : 'degraded',
      ...(problem === undefined ? {} : { problem }),
      defaultAction,
      rules: compiled.tables.rules.size,
      generation,
      counters: {
        eventsDropped: Number(dropped),
        unknownCgroups: Number(unknown),
        unclassifiedCgroups: Number(unclassed),
      },
    };
  }

  /** How full the maps are, of one policy. */
  fill(): MapFill[] {
    const { dests, cidrs, matches, sources, rules } = this.enforcer.compiled.tables;
    const { sizes } = this.#options;
    const row = (name: AclMapName, used: number, max: number): MapFill => ({
      name,
      used,
      max,
      limit: limitOf[name] ?? '',
    });
    return [
      row('zh_acl_rules', rules.size, sizes.aclRules - 1),
      row('zh_acl_dests', dests.size, sizes.aclEntries),
      row('zh_acl_cidrs', cidrs.size, sizes.aclEntries),
      row('zh_acl_matches', matches.size, sizes.aclEntries),
      row('zh_acl_sources', sources.size, sizes.aclEntries),
      row('zh_acl_globs', this.enforcer.compiled.tables.automaton.globs.size, sizes.aclGlobs),
      row('zh_acl_cgroups', this.enforcer.cgroups, sizes.aclCgroups),
    ];
  }

  counters(rule: string): AclCounters {
    const number = this.enforcer.compiled.numbering.numbers.get(rule);
    return number === undefined ? { denied: 0, allowed: 0, audited: 0 } : this.#stats(number);
  }

  deniedByDefault(): number {
    return this.#stats(0).denied;
  }

  warnings(rule: string): readonly string[] {
    return this.enforcer.compiled.problems
      .filter((problem) => problem.rule === rule)
      .map(({ message }) => message);
  }

  async test(question: AclTestBody): Promise<AclTestAnswer> {
    const { defaultAction, enforcement } = this.#options;
    const { identities, addresses, compiled } = this.enforcer;
    const catalog = this.#options.catalog();
    return await answer(question, {
      world: {
        rules: [...this.#options.snapshot().acls.values()],
        services: catalog.services,
        users: identities.all('user'),
        groups: identities.all('group'),
        localAddresses: addresses,
        defaultAction,
      },
      catalog,
      identities,
      cgroupRoot: this.#cgroupRoot,
      kernel: enforcement.name === 'none' ? undefined : this.#kernel,
      tables: compiled.tables,
    });
  }

  log(limit: number, rule: string | undefined): AclLogAnswer {
    this.#log.drain();
    const { entries, seen, dropped } = this.#log.last(
      limit,
      (entry) => rule === undefined || entry.rule === rule,
    );
    return { entries: [...entries], seen, dropped };
  }

  follow(follower: AclFollower): () => void {
    return this.#log.follow(follower);
  }

  #problem(unclassed: number): string | undefined {
    const { name, why } = this.#options.enforcement;
    if (this.enforcer.isPolicy && name === 'none')
      return `there are rules, and nothing enforces them: ${why}`;
    if (this.problem !== undefined) return this.problem;
    if (!this.enforcer.isPolicy) return undefined;
    if (unclassed > 0 && this.enforcer.cgroups >= this.#options.sizes.aclCgroups) {
      return `zh_acl_cgroups was full when new cgroups came (${unclassed} so far): raise maps.aclCgroups`;
    }
    return undefined;
  }

  #stats(number: number): AclCounters {
    const { denied, allowed, audited } = this.#kernel.stats(number);
    return { denied: Number(denied), allowed: Number(allowed), audited: Number(audited) };
  }
}
