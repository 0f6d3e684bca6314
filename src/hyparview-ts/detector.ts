// Watches the active links: who of my neighbours does not answer any more? It ends a link, it never declares a node
// dead: that follows when no neighbour vouches for it (members.ts).
// Das, Gupta, Motivala, "SWIM", DSN 2002 (indirect probes, suspicion, incarnations); Dadgar, Phillips, Currey,
// "Lifeguard", 2018 (local health, a suspicion that ends sooner the more agree). Departures: each node watches its few
// neighbours, not random members; those asked for help are the suspect's own neighbours, whose word counts; one silent
// link has all looked at; and helpers that do not answer do not speak against this node: whether it is slow, it knows by
// its own lateness (standstill.ts), so they are cut off as well, which agrees with the suspicion.
// Times in here are this node's own, without those in which it stood still: these are nobody's silence. But what others
// said is no matter of them: where enough agree, the suspicion ends in real time too, or one overloaded neighbour would
// vouch for the dead for as long as it is overloaded.
import { LIMITS } from './config.ts';
import type { Config } from './config.ts';
import type { Effects } from './effects.ts';
import { jitter } from './random.ts';
import type { Random } from './random.ts';
import { Standstill } from './standstill.ts';
import type { MessageOf, NodeId, Peer } from './types.ts';

interface Suspicion {
  readonly since: number;
  /** When it began, in real time. */
  readonly sinceReal: number;
  /** Others that do not hear it either. */
  readonly confirmed: Set<NodeId>;
  /** Who asked me, and waits for my word. */
  readonly askers: Map<NodeId, Peer>;
  /** Who was asked and has not answered, and whether that alone tells: who is not the suspect's neighbour has nothing to say. */
  readonly unanswered: Map<NodeId, boolean>;
  told: boolean;
  /** From then on these agree. */
  answersDue: number;
  /** Somebody hears it. */
  vouched: boolean;
}

interface Link {
  readonly peer: Peer;
  smoothMs: number;
  varianceMs: number;
  /** The least of the last answers: what comes on top of it is of busy hosts, not of the way. */
  leastMs: number;
  answers: number;
  intervalMs: number;
  /** Pings that it may still send at the least interval to unlearn what it learned of busy hosts. */
  proofs: number;
  nextPing: number;
  nonce: number;
  sentAt: number;
  waiting: boolean;
  heardAt: number;
  misses: number;
  incarnation: number;
  suspicion: Suspicion | undefined;
}

export interface Helpers {
  readonly peers: readonly Peer[];
  /** They are that node's neighbours; false: only this node's, as others are not known. */
  readonly areItsOwn: boolean;
}

export interface DetectorHooks {
  /** The link is dead: take it out. */
  linkFailed(id: NodeId, now: number): void;
  /** Whom to ask about that node. */
  helpersFor(id: NodeId): Helpers;
  /** All its other neighbours have ended their links to it. */
  isAbandoned(id: NodeId): boolean;
  digest(): number;
  measured(peer: Peer, rttMs: number, now: number): void;
}

const HELPERS_MAX = 8; // a guess: all the neighbours a node usually has
const RTT_CACHE_MAX = 256;
/** So many timed answers of a link tell how long the way is. */
const ANSWERS_MIN = 8; // a guess: some five seconds
/** With each answer: a longer way shows after a minute or so. */
const LEAST_GROWTH = 1.02; // a guess
/** So many pings at the least interval, one more with each other answer, find that hosts are no longer busy. */
const PROOFS_MAX = 16; // measured: eight to ten good answers
/** Of a link that was never measured, in least timeouts: after a partition many are new when the next comes. */
const UNMEASURED = 3; // measured: with five the last to know took 4 s; with three none more is called dead
/** All links are looked at for the sake of one so often at most. */
const SWEEP_MS = 1000; // a guess

export class Detector {
  readonly #links = new Map<NodeId, Link>();
  readonly #measuring = new Map<number, { readonly peer: Peer; readonly sentAt: number }>();
  readonly #rtts = new Map<NodeId, number>();
  #health = 0;
  readonly #clock = new Standstill();
  #sweptAt = -Infinity;
  incarnation: number;

  readonly #self: Peer;
  readonly #config: Config;
  readonly #random: Random;
  readonly #effects: Effects;
  readonly #hooks: DetectorHooks;

  constructor(
    self: Peer,
    config: Config,
    random: Random,
    effects: Effects,
    hooks: DetectorHooks,
    incarnation: number,
  ) {
    this.#self = self;
    this.#config = config;
    this.#random = random;
    this.#effects = effects;
    this.#hooks = hooks;
    this.incarnation = incarnation;
  }

  raiseIncarnation(above: number): void {
    this.incarnation = Math.min(LIMITS.incarnation, Math.max(this.incarnation, above + 1));
  }

  /** 0 when this node trusts itself, up to localHealthMax when it seems to be the slow one. */
  get localHealth(): number {
    return this.#health;
  }

  rttMs(id: NodeId): number | undefined {
    const link = this.#links.get(id);
    return link !== undefined && link.smoothMs >= 0 ? link.smoothMs : this.#rtts.get(id);
  }

  /** Without what busy hosts add; undefined where too few answers were timed to tell. */
  wayMs(id: NodeId): number | undefined {
    const link = this.#links.get(id);
    if (link === undefined) return this.#rtts.get(id);
    return link.answers < ANSWERS_MIN ? undefined : link.leastMs;
  }

  isSuspected(id: NodeId): boolean {
    return this.#links.get(id)?.suspicion !== undefined;
  }

  /** To be told of every input before anything else. */
  handled(now: number): void {
    this.#clock.handled(now, this.#effects.timers.get('detector') ?? Infinity);
  }

  #wakeBy(own: number): void {
    this.#effects.wakeBy('detector', this.#clock.real(own));
  }

  linkUp(peer: Peer, at: number): void {
    const now = this.#clock.own(at);
    this.#links.set(peer.id, {
      peer,
      smoothMs: -1,
      varianceMs: 0,
      leastMs: Infinity,
      answers: 0,
      intervalMs: this.#config.pingMinMs,
      proofs: PROOFS_MAX,
      nextPing: now + jitter(this.#random, this.#config.pingMinMs / 2, 1),
      nonce: 0,
      sentAt: now,
      waiting: false,
      heardAt: now,
      misses: 0,
      incarnation: 0,
      suspicion: undefined,
    });
    this.#wakeBy(now + this.#config.pingMinMs);
  }

  linkDown(id: NodeId): void {
    this.#links.delete(id);
  }

  /** More when this node is slow itself. */
  #timeoutMs(link: Link): number {
    return this.#retransmitMs(link) * (1 + this.#health);
  }

  /** RFC 6298's retransmission timeout. */
  #retransmitMs({ smoothMs, varianceMs }: Link): number {
    const { pingTimeoutMinMs, pingTimeoutMaxMs } = this.#config;
    const rto = smoothMs < 0 ? UNMEASURED * pingTimeoutMinMs : smoothMs + 4 * varianceMs;
    return Math.max(pingTimeoutMinMs, Math.min(pingTimeoutMaxMs, rto));
  }

  #suspicionMs(link: Link, suspicion: Suspicion, now: number): number {
    const { suspicionMinMs, suspicionMaxMs, suspicionConfirmations } = this.#config;
    const least = Math.max(suspicionMinMs, 2 * this.#timeoutMs(link));
    const most = Math.max(suspicionMaxMs * (1 + this.#health), 2 * least);
    const { confirmed, unanswered, told, vouched } = suspicion;
    // memberlist takes the least where too few nodes are there to confirm anything; here one agreeing is assumed
    const hasNobodyToAsk = told && !vouched && unanswered.size === 0;
    const agreeing = confirmed.size + this.#silentHelpers(suspicion, now);
    const confirmations = Math.min(
      suspicionConfirmations,
      Math.max(agreeing, Number(hasNobodyToAsk)),
    );
    const agreed = Math.log(confirmations + 1) / Math.log(suspicionConfirmations + 1);
    return Math.max(least, most - (most - least) * agreed); // Lifeguard, section IV-B
  }

  #silentHelpers({ vouched, answersDue, unanswered }: Suspicion, now: number): number {
    if (vouched || now < answersDue) return 0;
    let count = 0;
    for (const [id, tells] of unanswered) count += Number(tells || this.isSuspected(id));
    return count;
  }

  /** When the link ends, unless somebody hears of the suspect before. */
  #endOf(link: Link, suspicion: Suspicion, now: number): number {
    const end = suspicion.since + this.#suspicionMs(link, suspicion, now);
    const { suspicionMinMs, suspicionConfirmations } = this.#config;
    if (suspicion.confirmed.size < suspicionConfirmations) return end;
    // who was slow to answer here, perhaps because this end was busy, was so for others too: they have waited long enough
    const waitMs = this.#hooks.isAbandoned(link.peer.id) ? 0 : 2 * this.#retransmitMs(link);
    const least = Math.max(suspicionMinMs, waitMs);
    return Math.min(end, this.#clock.own(suspicion.sinceReal + 2 * least));
  }

  onTimer(at: number): void {
    const now = this.#clock.own(at);
    for (const link of Array.from(this.#links.values())) this.#check(link, now);
    let next = Infinity;
    for (const link of this.#links.values()) next = Math.min(next, this.#due(link, now));
    for (const [nonce, { sentAt }] of this.#measuring) {
      if (now - sentAt > this.#config.pingTimeoutMaxMs) this.#measuring.delete(nonce);
    }
    if (next < Infinity) this.#wakeBy(Math.max(now + 1, next));
  }

  #due(link: Link, now: number): number {
    const { suspicion } = link;
    if (suspicion !== undefined) {
      const { answersDue } = suspicion;
      const end = this.#endOf(link, suspicion, now);
      return Math.min(link.nextPing, end, answersDue > now ? answersDue : Infinity);
    }
    return link.waiting ? link.sentAt + this.#timeoutMs(link) : link.nextPing;
  }

  #check(link: Link, now: number): void {
    const { suspicion } = link;
    if (suspicion !== undefined) {
      this.#checkSuspicion(link, suspicion, now);
    } else if (link.waiting && now >= link.sentAt + this.#timeoutMs(link)) {
      link.misses += 1;
      link.intervalMs = this.#config.pingMinMs;
      if (link.misses >= 2) this.#suspect(link, now);
      this.#ping(link, now);
      if (link.misses >= 2) this.#sweep(now);
    } else if (!link.waiting && now >= link.nextPing) {
      this.#ping(link, now);
    }
  }

  /** One link is silent: are others? Who was cut off from many knows of all at about the same time. */
  #sweep(now: number): void {
    if (now < this.#sweptAt + SWEEP_MS) return;
    this.#sweptAt = now;
    for (const link of this.#links.values()) {
      const isBusy = link.waiting || link.suspicion !== undefined;
      if (!isBusy && now >= link.heardAt + this.#config.pingTimeoutMinMs) this.#ping(link, now);
    }
  }

  #ping(link: Link, now: number): void {
    link.nonce = this.#random.next();
    link.sentAt = now;
    link.waiting = true;
    link.nextPing = now + this.#config.pingMinMs;
    const digest = this.#hooks.digest();
    const { nonce } = link;
    this.#effects.send(link.peer, { type: 'ping', nonce, measure: false, digest }, 'urgent');
  }

  #suspect(link: Link, now: number): Suspicion {
    // one who lost an answer may ask early: the link is as silent as it is, not as somebody else's
    const since = Math.max(now, link.heardAt + 2 * this.#timeoutMs(link));
    const suspicion: Suspicion = {
      since,
      sinceReal: this.#clock.real(now),
      confirmed: new Set(),
      askers: new Map(),
      unanswered: new Map(),
      told: false,
      answersDue: Infinity,
      vouched: false,
    };
    link.suspicion = suspicion;
    this.#effects.event({ type: 'suspected', peer: link.peer });
    this.#wakeBy(now + 1);
    return suspicion;
  }

  #checkSuspicion(link: Link, suspicion: Suspicion, now: number): void {
    const selfMissed = link.misses >= 2 || now >= suspicion.since + this.#timeoutMs(link);
    if (selfMissed && !suspicion.told) this.#tell(link, suspicion, now);
    if (now >= this.#endOf(link, suspicion, now)) {
      this.#silent(link.peer.id);
      this.#hooks.linkFailed(link.peer.id, this.#clock.real(now));
      return;
    }
    if (now >= link.nextPing) this.#ping(link, now);
  }

  /** Its link ends: whether or not it could know of other suspects, it does not answer anybody. */
  #silent(id: NodeId): void {
    for (const { suspicion } of this.#links.values()) {
      if (suspicion?.unanswered.has(id) === true) suspicion.unanswered.set(id, true);
    }
  }

  /** Asks the suspect's other neighbours, and says to those who asked me that I do not hear it either. */
  #tell(link: Link, suspicion: Suspicion, now: number): void {
    suspicion.told = true;
    suspicion.answersDue = now + 2 * this.#timeoutMs(link);
    this.#wakeBy(suspicion.answersDue);
    this.#sweep(now);
    const target = link.peer.id;
    const { peers, areItsOwn } = this.#hooks.helpersFor(target);
    for (const helper of peers.slice(0, HELPERS_MAX)) {
      const { incarnation } = link;
      const message = { type: 'suspect', target, incarnation } as const;
      if (this.#effects.send(helper, message, 'urgent', 'look'))
        suspicion.unanswered.set(helper.id, areItsOwn);
    }
    const { incarnation } = link;
    this.#effects.send(link.peer, { type: 'suspect', target, incarnation }, 'urgent');
    for (const asker of suspicion.askers.values()) {
      const message = { type: 'vouch', target, alive: false, incarnation } as const;
      this.#effects.send(asker, message, 'urgent', 'look');
    }
  }

  onSuspect(from: Peer, { target, incarnation }: MessageOf<'suspect'>, at: number): void {
    const now = this.#clock.own(at);
    if (target === this.#self.id) {
      this.#refute(from, incarnation);
      return;
    }
    const link = this.#links.get(target);
    if (link === undefined) return; // not my neighbour (any more): my word would count for nothing
    const suspicion = link.suspicion ?? this.#suspect(link, now);
    suspicion.unanswered.delete(from.id);
    if (suspicion.confirmed.size < HELPERS_MAX) suspicion.confirmed.add(from.id);
    if (suspicion.askers.size < HELPERS_MAX) suspicion.askers.set(from.id, from);
    if (suspicion.told) {
      const message = {
        type: 'vouch',
        target,
        alive: false,
        incarnation: link.incarnation,
      } as const;
      this.#effects.send(from, message, 'urgent');
    }
    this.#ping(link, now);
    this.#wakeBy(now + 1);
  }

  #refute(from: Peer, incarnation: number): void {
    this.#adjustHealth(1); // Lifeguard: refuting a suspicion about oneself
    if (incarnation >= this.incarnation) this.raiseIncarnation(incarnation);
    const message = {
      type: 'vouch',
      target: this.#self.id,
      alive: true,
      incarnation: this.incarnation,
    } as const;
    this.#effects.send(from, message, 'urgent');
  }

  onVouch(from: Peer, message: MessageOf<'vouch'>, at: number): void {
    const now = this.#clock.own(at);
    const link = this.#links.get(message.target);
    const suspicion = link?.suspicion;
    if (link === undefined || suspicion === undefined) return;
    suspicion.unanswered.delete(from.id);
    if (!message.alive) {
      if (suspicion.confirmed.size < HELPERS_MAX) suspicion.confirmed.add(from.id);
      this.#wakeBy(now + 1);
    } else if (message.incarnation >= link.incarnation) {
      link.incarnation = message.incarnation;
      if (from.id !== message.target) this.#heldUp(link, suspicion, now);
    }
  }

  /** Somebody hears it. The node lives; whether this link does is still open, with nobody left to hurry for. */
  #heldUp(link: Link, suspicion: Suspicion, now: number): void {
    suspicion.confirmed.clear();
    suspicion.vouched = true;
    for (const asker of suspicion.askers.values()) {
      const { incarnation } = link;
      const target = link.peer.id;
      const message = { type: 'vouch', target, alive: true, incarnation } as const;
      this.#effects.send(asker, message, 'urgent', 'look');
    }
    suspicion.askers.clear();
    this.#wakeBy(now + 1);
  }

  /** Anything at all from a neighbour shows that it lives. */
  heard(id: NodeId, at: number): void {
    const now = this.#clock.own(at);
    const link = this.#links.get(id);
    if (link === undefined) return;
    const { suspicion } = link;
    link.heardAt = now;
    if (suspicion !== undefined) {
      link.suspicion = undefined;
      this.#adjustHealth(-1);
      const { incarnation } = link;
      for (const asker of suspicion.askers.values()) {
        const message = { type: 'vouch', target: id, alive: true, incarnation } as const;
        this.#effects.send(asker, message, 'urgent', 'look');
      }
      this.#effects.event({ type: 'cleared', peer: link.peer });
    }
    // other messages do not put off the next ping: a flood would make all links of a node ping at one moment, and a
    // crash just after that would go unseen for a whole interval
    if (link.waiting || suspicion !== undefined) link.nextPing = now + link.intervalMs;
    link.waiting = false;
    link.misses = 0;
  }

  onPing(from: Peer, nonce: number, at: number): void {
    const now = this.#clock.own(at);
    const link = this.#links.get(from.id);
    // its ping is as good as mine, but for what an answer would tell
    if (link !== undefined && !this.#isUnsure(link))
      link.nextPing = now + jitter(this.#random, link.intervalMs, 0.1);
    const digest = this.#hooks.digest();
    this.#effects.send(
      from,
      { type: 'pong', nonce, incarnation: this.incarnation, digest },
      'urgent',
    );
  }

  onPong(from: Peer, { nonce, incarnation }: MessageOf<'pong'>, at: number): void {
    const now = this.#clock.own(at);
    const measuring = this.#measuring.get(nonce);
    if (measuring !== undefined && measuring.peer.id === from.id) {
      this.#measuring.delete(nonce);
      this.#remember(from.id, now - measuring.sentAt);
      this.#hooks.measured(from, now - measuring.sentAt, at);
      return;
    }
    const link = this.#links.get(from.id);
    if (link === undefined) return;
    if (link.nonce !== nonce) return; // late or replayed: shows life (heard), measures nothing
    link.nonce = 0;
    link.incarnation = incarnation; // its own word: lower than before when it began anew
    const isProof = this.#isProof(link, now - link.sentAt);
    this.#sampleRtt(link, now - link.sentAt);
    link.proofs = Math.min(PROOFS_MAX, link.proofs + (isProof ? -1 : 1));
    link.intervalMs = Math.min(this.#config.pingMaxMs, link.intervalMs * this.#config.pingGrowth);
    const intervalMs = isProof ? this.#config.pingMinMs : link.intervalMs;
    link.nextPing = now + jitter(this.#random, intervalMs, 0.1);
    this.#wakeBy(link.nextPing);
    this.#adjustHealth(-1);
  }

  /** It waits long before it takes silence for silence, as answers were now quick, now slow. */
  #isUnsure({ varianceMs }: Link): boolean {
    return 4 * varianceMs > this.#config.pingTimeoutMinMs;
  }

  /**
   * What a link learned while a host was busy it forgets with answers, not with time: so where they have become better it
   * asks again soon, until it is sure, as far as it may.
   */
  #isProof(link: Link, rttMs: number): boolean {
    return this.#isUnsure(link) && rttMs < link.smoothMs && link.proofs > 0;
  }

  #sampleRtt(link: Link, rttMs: number): void {
    link.answers += 1;
    link.leastMs = Math.min(rttMs, LEAST_GROWTH * link.leastMs);
    if (link.smoothMs < 0) {
      link.smoothMs = rttMs;
      link.varianceMs = rttMs / 2;
      return;
    }
    link.varianceMs = 0.75 * link.varianceMs + 0.25 * Math.abs(link.smoothMs - rttMs); // RFC 6298
    link.smoothMs = 0.875 * link.smoothMs + 0.125 * rttMs;
  }

  #adjustHealth(by: number): void {
    this.#health = Math.max(0, Math.min(this.#config.localHealthMax, this.#health + by));
  }

  /** Measures the way to a peer that is no neighbour. */
  measure(peer: Peer, at: number): void {
    const now = this.#clock.own(at);
    if (this.#measuring.size >= 16) return;
    const nonce = this.#random.next();
    const message = { type: 'ping', nonce, measure: true, digest: this.#hooks.digest() } as const;
    if (!this.#effects.send(peer, message, 'normal', 'look')) return;
    this.#measuring.set(nonce, { peer, sentAt: now });
    this.#wakeBy(now + this.#config.pingTimeoutMaxMs + 1);
  }

  #remember(id: NodeId, rttMs: number): void {
    this.#rtts.delete(id);
    this.#rtts.set(id, rttMs);
    if (this.#rtts.size <= RTT_CACHE_MAX) return;
    const oldest = this.#rtts.keys().next().value;
    if (oldest !== undefined) this.#rtts.delete(oldest);
  }
}
