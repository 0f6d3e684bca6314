// A binary heap of (time, order) with a payload: equal times leave in the order they came, so that a run depends on
// nothing but its seed.

export class Heap<T> {
  readonly #times: number[] = [];
  readonly #orders: number[] = [];
  readonly #items: T[] = [];
  #order = 0;

  get size(): number {
    return this.#times.length;
  }

  nextTime(): number {
    return this.#times[0] ?? Infinity;
  }

  push(time: number, item: T): void {
    const times = this.#times;
    const orders = this.#orders;
    const items = this.#items;
    const order = this.#order++;
    let at = times.length;
    times.push(time);
    orders.push(order);
    items.push(item);
    while (at > 0) {
      const up = (at - 1) >> 1;
      const upTime = times[up] as number;
      if (upTime <= time) break; // among equal times the new one is the last
      times[at] = upTime;
      orders[at] = orders[up] as number;
      items[at] = items[up] as T;
      at = up;
    }
    times[at] = time;
    orders[at] = order;
    items[at] = item;
  }

  pop(): T | undefined {
    const times = this.#times;
    const orders = this.#orders;
    const items = this.#items;
    if (times.length === 0) return undefined;
    const top = items[0];
    const time = times.pop() as number;
    const order = orders.pop() as number;
    const item = items.pop() as T;
    const size = times.length;
    if (size === 0) return top;
    let at = 0;
    for (;;) {
      let down = 2 * at + 1;
      if (down >= size) break;
      if (down + 1 < size && this.#before(down + 1, down)) down += 1;
      const downTime = times[down] as number;
      const downOrder = orders[down] as number;
      if (time < downTime || (time === downTime && order < downOrder)) break;
      times[at] = downTime;
      orders[at] = downOrder;
      items[at] = items[down] as T;
      at = down;
    }
    times[at] = time;
    orders[at] = order;
    items[at] = item;
    return top;
  }

  #before(a: number, b: number): boolean {
    const timeA = this.#times[a] as number;
    const timeB = this.#times[b] as number;
    return (
      timeA < timeB ||
      (timeA === timeB && (this.#orders[a] as number) < (this.#orders[b] as number))
    );
  }
}
