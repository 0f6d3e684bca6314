/**
 * Which endpoints are down, from one look after the other. A look is begin(), which says whom to
 * connect to, and end() with the answers. Without a listener there may still be somebody, by DNAT;
 * so only a refused connection is a miss, two misses in a row are down, and whoever is seen is up.
 * Knows no clock.
 */
export interface WatchOptions {
  /** Misses in a row. The first look of all needs one: nobody saw these endpoints up yet. */
  readonly misses: number;
  /** Connections of one look; a quarter of them are for those that are down. */
  readonly probesMax: number;
  /** Who answered without a listener is asked again after this many looks: each is a connection that says nothing. */
  readonly restLooks: number;
}

/** Guesses. 64 connections to oneself are some 10 ms of CPU. */
export const WATCH_OPTIONS: WatchOptions = { misses: 2, probesMax: 64, restLooks: 10 };

export type Answer = 'refused' | 'answered';

interface Standing {
  readonly misses: number;
  readonly isDown: boolean;
  /** Number of the look in which it was asked last; the lowest is the next. */
  readonly askedAt: number;
  /** It answered then, and there was no listener since. */
  readonly hasAnswered: boolean;
}

const UP: Standing = { misses: 0, isDown: false, askedAt: 0, hasAnswered: false };

export class Watch {
  readonly #options: WatchOptions;
  #standings = new Map<string, Standing>();
  #look = 0;

  constructor(options: Partial<WatchOptions> = {}) {
    this.#options = { ...WATCH_OPTIONS, ...options };
  }

  down(): Set<string> {
    return new Set([...this.#standings].flatMap(([key, { isDown }]) => (isDown ? [key] : [])));
  }

  /** All there are, each with whether it has a listener. Answers whom to connect to. */
  begin(endpoints: Iterable<readonly [key: string, isListenedAt: boolean]>): string[] {
    this.#look += 1;
    const before = this.#standings;
    this.#standings = new Map();
    const silent: { readonly key: string; readonly standing: Standing }[] = [];
    for (const [key, isListenedAt] of endpoints) {
      const standing = isListenedAt ? UP : (before.get(key) ?? UP);
      this.#standings.set(key, standing);
      if (!isListenedAt && !this.#mayRest(standing)) silent.push({ key, standing });
    }
    const { probesMax } = this.#options;
    const order = silent.toSorted((a, b) => a.standing.askedAt - b.standing.askedAt);
    const down = order.filter(({ standing }) => standing.isDown).slice(0, Math.ceil(probesMax / 4));
    const missed = order.filter(({ standing }) => !standing.isDown && standing.misses > 0);
    const others = order.filter(({ standing }) => !standing.isDown && standing.misses === 0);
    const asked = [...missed, ...others].slice(0, probesMax - down.length);
    return [...asked, ...down].map(({ key }) => key);
  }

  end(answers: ReadonlyMap<string, Answer>): void {
    const enough = this.#look === 1 ? 1 : this.#options.misses;
    for (const [key, answer] of answers) {
      const before = this.#standings.get(key);
      if (before === undefined) continue;
      const hasAnswered = answer === 'answered';
      const misses = hasAnswered ? 0 : before.misses + 1;
      const isDown = !hasAnswered && (before.isDown || misses >= enough);
      this.#standings.set(key, { misses, isDown, askedAt: this.#look, hasAnswered });
    }
  }

  #mayRest({ hasAnswered, askedAt }: Standing): boolean {
    return hasAnswered && this.#look - askedAt < this.#options.restLooks;
  }
}
