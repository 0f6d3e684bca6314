/**
 * Who hears whom on the bridge of a test cluster, and the nftables rules that
 * make it so. Pure: switch.ts applies the text.
 */

/** How a test sees the hosts of a cluster: by their place in `cluster.hosts`. */
export type Place = number;

export interface Wires {
  /** `FROM TO`: nothing that FROM sends reaches TO. */
  readonly cut: ReadonlySet<string>;
  /** Percent of the packets lost, each way, between this host and any other. */
  readonly loss: ReadonlyMap<Place, number>;
}

export const whole: Wires = { cut: new Set(), loss: new Map() };

const pair = (from: Place, to: Place): string => `${from} ${to}`;

/** Only hosts of one group hear each other. Takes the place of all earlier cuts. */
export function partitioned(
  wires: Wires,
  hosts: number,
  groups: readonly (readonly Place[])[],
): Wires {
  const groupOf = new Map<Place, number>();
  for (const [group, places] of groups.entries()) {
    for (const place of places) {
      if (place < 0 || place >= hosts || groupOf.has(place))
        throw new Error(
          `host ${place} is in several groups, or none of the hosts 0 to ${hosts - 1}`,
        );
      groupOf.set(place, group);
    }
  }
  if (groupOf.size !== hosts)
    throw new Error(`the groups have ${groupOf.size} of the ${hosts} hosts: name each one once`);
  const cut = new Set<string>();
  for (let from = 0; from < hosts; from++)
    for (let to = 0; to < hosts; to++)
      if (groupOf.get(from) !== groupOf.get(to)) cut.add(pair(from, to));
  return { ...wires, cut };
}

/** Besides what is cut already: nothing from `from` reaches `to`. The other way stays. */
export function muted(wires: Wires, from: Place, to: Place): Wires {
  return { ...wires, cut: new Set([...wires.cut, pair(from, to)]) };
}

/** Besides what is cut already: this host neither hears nor is heard. */
export function lonely(wires: Wires, hosts: number, alone: Place): Wires {
  const cut = new Set(wires.cut);
  for (let other = 0; other < hosts; other++) {
    if (other === alone) continue;
    cut.add(pair(alone, other));
    cut.add(pair(other, alone));
  }
  return { ...wires, cut };
}

export function lossy(wires: Wires, place: Place, percent: number): Wires {
  if (!(percent >= 0 && percent <= 100)) throw new Error(`${percent} is no percentage`);
  const loss = new Map(wires.loss);
  if (percent === 0) loss.delete(place);
  else loss.set(place, percent);
  return { ...wires, loss };
}

/** Of what nftables draws from; 0.01 % is the least. */
const DRAWN_FROM = 10_000;

/** For `nft -f`: replaces the earlier rules in one step. */
export function rules(wires: Wires, portOf: (place: Place) => string): string {
  const cut = [...wires.cut].map((words) => {
    const [from = Number.NaN, to = Number.NaN] = words.split(' ').map(Number);
    return `"${portOf(from)}" . "${portOf(to)}"`;
  });
  const losses = [...wires.loss].flatMap(([place, percent]) => {
    const drawn = `numgen random mod ${DRAWN_FROM} < ${Math.round(percent * (DRAWN_FROM / 100))}`;
    return [`iifname "${portOf(place)}" ${drawn} drop`, `oifname "${portOf(place)}" ${drawn} drop`];
  });
  const elements = cut.length === 0 ? '' : ` elements = { ${cut.join(', ')} }`;
  return [
    'table bridge wires', // so that there is one to delete
    'delete table bridge wires',
    'table bridge wires {',
    `  set cut { type ifname . ifname;${elements} }`,
    '  chain forward {',
    '    type filter hook forward priority 0; policy accept;',
    '    iifname . oifname @cut drop',
    ...losses.map((loss) => `    ${loss}`),
    '  }',
    '}',
    '',
  ].join('\n');
}
