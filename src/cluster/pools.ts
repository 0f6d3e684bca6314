/**
 * The blocks that VIPs come from, as each member tells its own in `node/info`. Where they differ,
 * members disagree on who has which VIP, and nothing mends that but equal configurations. Pure.
 */

export interface Pooled {
  readonly id: string;
  readonly name: string;
  /** undefined: its version does not tell them. */
  readonly vips: readonly string[] | undefined;
}

type Odd = Pooled & { readonly vips: readonly string[] };

export const POOLS_HINT =
  'make vipCidr4 and vipPrefix6 equal in every zerohop.yaml, and restart the agents';

const NAMES_SHOWN = 3;

function oddOnes(own: readonly string[], members: readonly Pooled[]): Odd[] {
  return members.flatMap(({ id, name, vips }) =>
    vips === undefined || textOf(vips) === textOf(own) ? [] : [{ id, name, vips }],
  );
}

function textOf(vips: readonly string[]): string {
  return vips.join(' and ');
}

function namesOf(names: readonly string[]): string {
  const shown = names.slice(0, NAMES_SHOWN);
  const more = names.length - shown.length;
  const last = more > 0 ? `${more} more` : shown.pop();
  return shown.length === 0 ? `${last} takes` : `${shown.join(', ')} and ${last} take`;
}

/** A sentence for each other set of pools. */
export function poolProblems(own: readonly string[], members: readonly Pooled[]): string[] {
  const groups = new Map<string, string[]>();
  for (const { name, vips } of oddOnes(own, members)) {
    const text = textOf(vips);
    const names = groups.get(text);
    if (names === undefined) groups.set(text, [name]);
    else names.push(name);
  }
  return [...groups].map(([text, names]) => {
    const who = namesOf(names);
    const here = `this host from ${textOf(own)}`;
    return `${who} VIPs from ${text}, ${here}: they disagree on who has which VIP; ${POOLS_HINT}`;
  });
}

/** Tells of each member with other pools once, and again when it has others. */
export class PoolWatch {
  readonly #own: readonly string[];
  readonly #told = new Map<string, string>();

  constructor(own: readonly string[]) {
    this.#own = own;
  }

  news(members: readonly Pooled[]): Odd[] {
    const odd = oddOnes(this.#own, members);
    const ids = new Set(odd.map(({ id }) => id));
    for (const id of this.#told.keys()) if (!ids.has(id)) this.#told.delete(id);
    return odd.filter(({ id, vips }) => {
      const text = textOf(vips);
      const isNews = this.#told.get(id) !== text;
      this.#told.set(id, text);
      return isNews;
    });
  }
}
