/** Who asks, how, and where. */
export interface Asker {
  readonly transport: 'udp' | 'tcp';
  /** The address that was asked. */
  readonly server: string;
  readonly client: string;
}
