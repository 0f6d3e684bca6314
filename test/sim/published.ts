// What others published, to set next to what is measured: each figure with where it is said to stand, and how far
// anybody looked. Of the papers themselves only the first pages were at hand, so most are as remembered.
export interface Figure {
  readonly what: string;
  readonly value: string;
  readonly source: string;
  /** `seen` in the source itself, told by `another` who read it, or as `remembered`. */
  readonly known: 'seen' | 'another' | 'remembered';
}

const HPV = 'Leitão, Pereira, Rodrigues, "HyParView", DSN 2007';
const PT = 'Leitão, Pereira, Rodrigues, "Epidemic Broadcast Trees", SRDS 2007';
const IROH = 'as iroh-gossip cites it, src/proto/hyparview.rs and plumtree.rs';
const MEMBERLIST = 'hashicorp/memberlist, config.go, DefaultLANConfig';

export const FIGURES = {
  views: {
    what: 'settings of the overlay',
    value: '10,000 nodes, active 5, passive 30, ARWL 6, PRWL 3',
    source: `${HPV}, p. 9 (${IROH})`,
    known: 'another',
  },
  optimisation: {
    what: 'optimisation of the tree',
    value: 'a tree is changed for a path 7 hops shorter',
    source: `${PT}, p. 12 (${IROH})`,
    known: 'another',
  },
  clustering: {
    what: 'clustering coefficient',
    value: '0.00092',
    source: `${HPV}, table 1`,
    known: 'remembered',
  },
  meanPath: {
    what: 'mean shortest path',
    value: '6.39',
    source: `${HPV}, table 1`,
    known: 'remembered',
  },
  lastHop: {
    what: 'last delivery hop',
    value: '9.0',
    source: `${HPV}, table 1`,
    known: 'remembered',
  },
  fullDegree: {
    what: 'nodes with the full in-degree',
    value: 'nearly all',
    source: `${HPV}, figure 5`,
    known: 'remembered',
  },
  reliability80: {
    what: 'reliability after up to 80 % failed',
    value: 'about 1',
    source: `${HPV}, figure 2`,
    known: 'remembered',
  },
  reliability90: {
    what: 'reliability after 90 % failed',
    value: 'about 1',
    source: `${HPV}, figure 2`,
    known: 'remembered',
  },
  reliability95: {
    what: 'reliability after 95 % failed',
    value: 'about 0.9',
    source: `${HPV}, figure 2`,
    known: 'remembered',
  },
  rounds: {
    what: 'healing',
    value: '1 to 2 membership rounds up to 80 % failed, a few more above',
    source: `${HPV}, figure 4`,
    known: 'remembered',
  },
  rmr: {
    what: 'redundancy of payloads',
    value: 'about 0 once stable',
    source: `${PT}, section 5`,
    known: 'remembered',
  },
  probe: {
    what: "memberlist's times",
    value: 'a probe each second, 500 ms to its timeout, suspicion 4 × log10 n s to 6 times that',
    source: MEMBERLIST,
    known: 'seen',
  },
} as const satisfies Record<string, Figure>;

const HOW: Record<Figure['known'], string> = {
  seen: '',
  another: ' (not seen in the paper)',
  remembered: ' (as remembered, not checked)',
};

export function cite({ value, known }: Figure): string {
  return `${value}${HOW[known]}`;
}

export function sources(): string[] {
  const how = {
    seen: 'seen',
    another: 'not seen in the paper',
    remembered: 'as remembered, not checked',
  };
  return Object.values(FIGURES).map(
    ({ what, value, source, known }) => `${what}, ${value}: ${source}; ${how[known]}`,
  );
}
