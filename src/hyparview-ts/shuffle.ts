// HyParView's Shuffle: now and then two random peers swap parts of their passive views, so that these stay full of
// the living (paper, section 4.4). The first few come sooner than the paper's steady beat: a new node knows nobody.
import type { HyParView } from './hyparview.ts';
import { jitter } from './random.ts';
import type { MessageOf, NodeId, Peer } from './types.ts';

export class Shuffle {
  /** Whom the last shuffle gave away: they make room for what comes for them. */
  #sent: readonly Peer[] = [];
  /** So many may still come for it, from wherever its walk ended. */
  #wanted = 0;
  #intervalMs: number;

  readonly #views: HyParView;

  constructor(views: HyParView) {
    this.#views = views;
    this.#intervalMs = views.config.shuffleFirstMs;
  }

  start(now: number): void {
    const { random, effects } = this.#views;
    effects.wakeBy('shuffle', now + jitter(random, this.#intervalMs, 0.5));
  }

  onTimer(now: number): void {
    const { active, passive, config, random, effects, self } = this.#views;
    this.#intervalMs = Math.min(config.shuffleMs, this.#intervalMs * 2);
    this.start(now);
    const to = active.choose(random);
    if (to === undefined) return;
    const peers = active.sample(random, config.shuffleActiveCount, to.id);
    this.#sent = passive.sample(random, config.shufflePassiveCount, to.id);
    peers.push(...this.#sent);
    this.#wanted = peers.length;
    effects.send(
      to,
      { type: 'shuffle', origin: self, ttl: config.activeWalkLength, peers },
      'bulk',
    );
  }

  onShuffle(from: Peer, { origin, ttl, peers }: MessageOf<'shuffle'>, now: number): void {
    const { active, passive, config, random, effects, self } = this.#views;
    if (!active.has(from.id) || origin.id === self.id) return;
    const left = Math.min(ttl, config.activeWalkLength) - 1;
    const next = left > 0 ? active.choose(random, from.id, origin.id) : undefined;
    if (next !== undefined) {
      effects.send(next, { type: 'shuffle', origin, ttl: left, peers }, 'bulk');
      return;
    }
    const answer = passive.sample(random, peers.length, origin.id);
    const heard = [origin, ...peers];
    if (effects.send(origin, { type: 'shuffle-reply', peers: answer }, 'bulk')) {
      this.#views.hear(heard, now, this.#held(answer));
      return;
    }
    // what the origin does not get told is not given up
    for (const peer of heard) if (passive.size < config.passiveMax) this.#views.hear([peer], now);
  }

  /** What nobody asked for is not taken. */
  onReply(peers: readonly Peer[]): void {
    const wanted = peers.slice(0, this.#wanted);
    this.#wanted -= wanted.length;
    const expendable = this.#held(this.#sent);
    for (const peer of wanted) this.#views.addPassive(peer, expendable);
  }

  #held(peers: readonly Peer[]): NodeId[] {
    return peers.map(({ id }) => id).filter((id) => this.#views.passive.has(id));
  }
}
