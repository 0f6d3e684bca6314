/** One metric as Prometheus knows it, and how it follows from what was read. */

export interface Sample {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
  /** Of a histogram. */
  readonly part?: 'bucket' | 'sum' | 'count';
}

export interface MetricOf<Reading> {
  readonly name: string;
  readonly type: 'gauge' | 'counter' | 'histogram';
  readonly help: string;
  readonly labels: readonly string[];
  /** None: there is nothing to tell, as of a cluster on a host outside one. */
  readonly read: (reading: Reading) => readonly Sample[];
}
