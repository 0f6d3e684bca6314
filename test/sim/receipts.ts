// Who got a broadcast, after how long, over how many links, and in which of its lives. Arrays by host, as a report has
// millions of these.

export class Receipts {
  /** Lives begin at 1; 0 is: not got. */
  #life: Uint32Array;
  #afterMs: Float32Array;
  #hop: Uint16Array;
  #size = 0;

  constructor(hosts: number) {
    this.#life = new Uint32Array(hosts);
    this.#afterMs = new Float32Array(hosts);
    this.#hop = new Uint16Array(hosts);
  }

  /** How many hosts. */
  get size(): number {
    return this.#size;
  }

  has(host: number): boolean {
    return this.lifeOf(host) !== 0;
  }

  lifeOf(host: number): number {
    return this.#life[host] ?? 0;
  }

  /** Undefined when it was not got. */
  afterMs(host: number): number | undefined {
    return this.has(host) ? this.#afterMs[host] : undefined;
  }

  hop(host: number): number | undefined {
    return this.has(host) ? this.#hop[host] : undefined;
  }

  add(host: number, afterMs: number, hop: number, life: number): void {
    if (host >= this.#life.length) this.#grow(host + 1);
    if (!this.has(host)) this.#size += 1;
    this.#life[host] = life;
    this.#afterMs[host] = afterMs;
    this.#hop[host] = hop;
  }

  *hosts(): Generator<number> {
    for (let host = 0; host < this.#life.length; host++) if (this.#life[host] !== 0) yield host;
  }

  #grow(hosts: number): void {
    const [life, afterMs, hop] = [this.#life, this.#afterMs, this.#hop];
    this.#life = new Uint32Array(hosts);
    this.#afterMs = new Float32Array(hosts);
    this.#hop = new Uint16Array(hosts);
    this.#life.set(life);
    this.#afterMs.set(afterMs);
    this.#hop.set(hop);
  }
}
