// Every knob with its unit and where its default is from. "HPV p. 9" is a page of HyParView's technical report
// (Leitão, Pereira, Rodrigues, DI-FCUL TR-07-13, the long form of the DSN 2007 paper), "PT p. N" of Plumtree's
// (TR-07-14); both pages as iroh-gossip cites them. "Lashup" is lashup_config.erl, "memberlist" its DefaultLANConfig.
export interface Config {
  // HyParView
  activeMax: number;
  passiveMax: number;
  /** ARWL: links a ForwardJoin or a Shuffle walks. */
  activeWalkLength: number;
  /** PRWL: the time to live at which the walk leaves the newcomer in a passive view. */
  passiveWalkLength: number;
  shuffleActiveCount: number;
  shufflePassiveCount: number;
  shuffleMs: number;
  shuffleFirstMs: number;
  neighborTimeoutMs: number;
  joinTimeoutMs: number;
  repairMs: number;
  joinsPerSecondMax: number;
  /** So many peers that others tell of unasked, and that are new here, are taken into the passive view. */
  toldPeersPerSecond: number;
  toldPeersBurst: number;
  // Connections to peers that others told of: dials.ts
  toldDialsPerSecond: number;
  toldDialsBurst: number;
  /** For what the protocol needs of itself; told ones take nothing from it. */
  ownDialsPerSecond: number;
  ownDialsBurst: number;
  /** Different peers at one address, at once. */
  dialsPerAddressMax: number;
  // X-BOT
  optimiseMs: number;
  randomLinks: number;
  // Plumtree
  /** Plumtree's tree, every link, or the shortest-path tree of each origin (multicast.ts). */
  broadcast: 'tree' | 'flood' | 'source-tree';
  /** With more nodes than this, Plumtree's tree serves all origins. */
  multicastNodesMax: number;
  payloadBytesMax: number;
  /** Until a payload that others have is asked for. */
  graftFirstMs: number;
  graftNextMs: number;
  /** An announcement is late by so much at most. */
  lazyMs: number;
  /** A lazy path must be this many hops shorter before the tree is changed for it. */
  hopGainMin: number;
  announcementsMax: number;
  cacheMs: number;
  cacheMessagesMax: number;
  cacheBytesMax: number;
  seenMs: number;
  seenMax: number;
  // Failure detection
  pingMinMs: number;
  pingMaxMs: number;
  pingGrowth: number;
  pingTimeoutMinMs: number;
  pingTimeoutMaxMs: number;
  suspicionMinMs: number;
  suspicionMaxMs: number;
  suspicionConfirmations: number;
  localHealthMax: number;
  // Link state
  linkState: boolean;
  publishMs: number;
  publishPerNodeMs: number;
  flushMs: number;
  holdMs: number;
  statesMax: number;
  syncMs: number;
  /** Dead nodes are forgotten after this. */
  forgetMs: number;
  // Finding the dead again
  rejoinMs: number;
  rejoinPeriodMs: number;
}

export const DEFAULTS: Config = {
  activeMax: 7, // Lashup: log10(10,000) + 3; HPV p. 9 has 5
  passiveMax: 42, // Lashup: 6 × active; HPV p. 9 has 30
  activeWalkLength: 8, // Lashup; HPV p. 9 has 6
  passiveWalkLength: 5, // Lashup; HPV p. 9 has 3
  shuffleActiveCount: 3, // HPV p. 9: ka
  shufflePassiveCount: 4, // HPV p. 9: kp
  shuffleMs: 60_000, // Lashup
  shuffleFirstMs: 1000, // a guess: doubles up to shuffleMs, so that a new node fills its passive view in its first minute
  neighborTimeoutMs: 500, // iroh-gossip, which calls it a wild guess
  joinTimeoutMs: 1000, // Lashup: join_interval
  repairMs: 10_000, // Lashup: neighbor_interval
  joinsPerSecondMax: 50, // a guess: more are sent on to other peers
  toldPeersPerSecond: 1, // a guess: 8 a minute come by shuffles at rest; well below ownDialsPerSecond, for each may cost one
  toldPeersBurst: 150, // measured: 91 are needed at that rate where 1,000 join in a second, 20 where nobody joins
  toldDialsPerSecond: 1, // measured in the simulator: 36 in a node's worst minute (300 join at 20 a second)
  toldDialsBurst: 100, // measured: three times what a join of 1,000 in a second needs
  ownDialsPerSecond: 10, // measured: 386 in the worst minute (overloaded nodes and 5 % loss)
  ownDialsBurst: 400, // measured: three times the worst at that rate (random scenarios), as looks have half of it
  dialsPerAddressMax: 4, // a guess: one is what an honest cluster needs, two where a host got another id
  optimiseMs: 10_000, // a guess
  randomLinks: 2, // a guess: X-BOT leaves the dearest few links alone, so that the overlay stays one
  broadcast: 'source-tree', // measured: fewer hops and less redundancy than Plumtree, see test/sim/REPORT.md
  multicastNodesMax: 16_384, // as statesMax; measured with 10,000, see test/sim/REPORT.md
  payloadBytesMax: 1_048_576, // a guess
  graftFirstMs: 200, // a guess: PT p. 8 wants the overlay's diameter in time; iroh-gossip has 80
  graftNextMs: 100, // a guess: PT p. 9 wants a round trip; iroh-gossip has 40
  lazyMs: 100, // measured with 25 hosts on two cores: at 20 the announcements hold the payload up; iroh-gossip has 5
  hopGainMin: 3, // a guess, see test/sim/README.md; PT p. 12 has 7
  announcementsMax: 512, // a guess: about 16 KiB a message
  cacheMs: 30_000, // iroh-gossip
  cacheMessagesMax: 8192, // a guess
  cacheBytesMax: 16_777_216, // a guess
  seenMs: 90_000, // iroh-gossip
  seenMax: 65_536, // a guess
  pingMinMs: 100, // Lashup: the noise floor
  pingMaxMs: 1000, // Lashup
  pingGrowth: 1.5, // a guess: six good pings to the full interval
  pingTimeoutMinMs: 100, // Lashup: the noise floor
  pingTimeoutMaxMs: 2000, // a guess
  suspicionMinMs: 400, // a guess: four pings; with two timeouts before it a node may stall for 0.6 s
  suspicionMaxMs: 1200, // a guess: where nobody agrees, eleven pings; memberlist has 6 × its minimum
  suspicionConfirmations: 3, // memberlist: SuspicionMult - 2 = 2, one more here as asking is cheaper
  localHealthMax: 8, // memberlist: AwarenessMaxMultiplier
  linkState: true,
  publishMs: 300, // a guess: a node that lost a link for another's sake has found a new one by then
  publishPerNodeMs: 1, // formula: n nodes × 1 ms apart bounds what a node hears to 1,000 records a second
  flushMs: 50, // a guess
  holdMs: 100, // a guess: news of the old link may overtake news of the new one
  statesMax: 16_384, // a guess; 10,000 nodes and room
  syncMs: 1000, // a guess
  forgetMs: 259_200_000, // a guess: three days
  rejoinMs: 5000, // a guess
  rejoinPeriodMs: 300_000, // half of the promised 10 minutes, so that one lost probe does not break it
};

/** The paper's own settings, for repeating its experiments (HPV p. 9). */
export const PAPER: Config = {
  ...DEFAULTS,
  activeMax: 5,
  passiveMax: 30,
  activeWalkLength: 6,
  passiveWalkLength: 3,
  optimiseMs: 0,
  broadcast: 'tree',
};

/** Limits that are no knobs: what the codec refuses and no view exceeds. */
export const LIMITS = {
  idLength: 64,
  addressLength: 255,
  zoneLength: 32,
  peersPerMessage: 64,
  ttl: 64,
  hop: 65_535,
  neighboursPerState: 32,
  statesPerMessage: 256,
  versionsPerMessage: 32_768,
  goneSeconds: 0xffff_ffff,
  buckets: 64,
  broadcastIdLength: 96,
  incarnation: 2 ** 52 - 1, // of sequences too; linkstate.ts hashes twice as much
  announcementsPerMessage: 4096,
  seeds: 64,
  frameBytes: 4_194_304,
} as const;

/** What of these settings would make frames that other nodes refuse; undefined when nothing. */
export function badConfig(config: Config): string | undefined {
  const least: [keyof Config, number][] = [
    ['activeMax', 2], // with one link each there are pairs, not an overlay
    ['announcementsMax', 1],
    ['statesMax', 1],
  ];
  const most: [keyof Config, number][] = [
    ['activeMax', LIMITS.neighboursPerState],
    ['activeWalkLength', LIMITS.ttl],
    ['shuffleActiveCount', LIMITS.peersPerMessage / 2],
    ['shufflePassiveCount', LIMITS.peersPerMessage / 2],
    ['payloadBytesMax', LIMITS.frameBytes - 256],
    ['announcementsMax', LIMITS.announcementsPerMessage],
    ['statesMax', LIMITS.versionsPerMessage],
  ];
  for (const [key, min] of least) {
    const value = Number(config[key]);
    if (!(value >= min)) return `${key} is ${value}, at least ${min} is needed`;
  }
  for (const [key, max] of most) {
    const value = Number(config[key]);
    if (!(value <= max)) return `${key} is ${value}, at most ${max} fits a frame`;
  }
  return undefined;
}
