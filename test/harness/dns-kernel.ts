/** The kernel's DNS on a test host, with a server (test/system/servers/kernel-dns.ts) and no agent; its clients. */
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { question, tell, type Asking, type Words } from '../unit/dns/zones.ts';
import type { Heard } from '../system/clients/dns-ask.ts';
import type { Order } from '../system/servers/kernel-dns.ts';
import type { Child } from './child.ts';
import { eventually } from './eventually.ts';
import type { TestHost } from './host.ts';

export const pathOf = (name: string): string =>
  fileURLToPath(new URL(`../system/${name}`, import.meta.url));
export const LOOPBACKS = ['127.0.0.55', '::1'] as const;

/** Counters of what came over the link, and state. */
export interface Seen {
  readonly state: string;
  readonly why?: string;
  readonly entries: number;
  readonly left: number;
  readonly answered4: number;
  readonly answered6: number;
  readonly unknown: number;
  readonly unfit: number;
  readonly others: number;
  readonly torn: number;
  readonly strangers: number;
  readonly refused4: number;
  readonly refused6: number;
  /** Of the table, by `churn`. */
  readonly changes: number;
  /** By the server, over any path. */
  readonly asked: number;
  readonly answered: number;
  readonly silent: number;
  readonly plain: number;
  readonly different: readonly unknown[];
  readonly unavailable?: string;
}

export class KernelServer {
  readonly child: Child;
  #lines = 0;

  private constructor(child: Child) {
    this.child = child;
  }

  static async start(
    host: TestHost,
    { entries = 1000, listen = LOOPBACKS }: { entries?: number; listen?: readonly string[] } = {},
  ): Promise<{ server: KernelServer; first: Seen }> {
    const program = pathOf('servers/kernel-dns.ts');
    const args = [host.cgroup, host.pinDir, String(entries), ...listen];
    const server = new KernelServer(host.spawn([process.execPath, program, ...args]));
    return { server, first: await server.#line(30_000) };
  }

  async #line(timeoutMs: number): Promise<Seen> {
    const before = this.#lines++;
    // Of the output alone: the log goes to stderr.
    const line = await eventually(
      `line ${before} of the server`,
      () => {
        const lines = this.child.stdout.split('\n');
        if (lines.length > before + 1) return lines[before];
        if (!this.child.running) throw new Error(`it ended: ${this.child.stderr}`);
        return undefined;
      },
      { timeoutMs },
    );
    return JSON.parse(line) as Seen;
  }

  async obeys(order: Order, timeoutMs = 30_000): Promise<Seen> {
    this.child.say(`${JSON.stringify(order)}\n`);
    return await this.#line(timeoutMs);
  }

  async zone(words: Words): Promise<Seen> {
    return await this.obeys({ do: 'zone', words });
  }

  async status(): Promise<Seen> {
    return await this.obeys({ do: 'status' });
  }
}

interface Ask extends Asking {
  readonly at?: string;
  readonly how?: 'connected' | 'unconnected';
  readonly bind?: string;
  readonly times?: number;
}

const client = pathOf('clients/dns-ask.ts');

export function words(name: string, type: string, { at = '127.0.0.55', ...ask }: Ask): string[] {
  const { how = 'connected', bind = '-', times = 1 } = ask;
  const asked = Buffer.from(question(name, type, ask)).toString('hex');
  return [process.execPath, client, at, how, bind, String(times), asked];
}

export async function askAll(
  host: TestHost,
  name: string,
  type = 'A',
  ask: Ask = {},
): Promise<Heard[]> {
  return JSON.parse(await host.output(words(name, type, ask))) as Heard[];
}

export async function ask(host: TestHost, name: string, type = 'A', how: Ask = {}): Promise<Heard> {
  const [heard] = await askAll(host, name, type, how);
  return heard ?? {};
}

export const toldOf = (heard: Heard): ReturnType<typeof tell> =>
  tell(Buffer.from(heard.answer ?? assert.fail(heard.error), 'hex'));

export const web = { services: { web: { vips: ['240.0.0.1', 'fd00::1'] } } };
export const WEB = 'web.zerohop.internal';
export const webIs = { answers: [`${WEB} 5 A 240.0.0.1`], rcode: 'NOERROR' };

export function says(heard: Heard, expected: { answers: readonly string[]; rcode: string }): void {
  const { answers, rcode } = toldOf(heard);
  assert.deepEqual({ answers, rcode }, expected);
}

/** Turns off that checksums are left to hardware: what the programs write is then read. */
export async function checksumsCount(host: TestHost): Promise<void> {
  const script = `
import array, fcntl, socket, struct
ETHTOOL_STXCSUM, SIOCETHTOOL = 0x17, 0x8946
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
off = array.array('B', struct.pack('II', ETHTOOL_STXCSUM, 0))
fcntl.ioctl(s, SIOCETHTOOL, struct.pack('16sP', b'zerohop0', off.buffer_info()[0]))`;
  await host.output(['python3', '-c', script]);
}

/** A firewall that drops what comes in over IPv4 and matches, in the words of nft(8). */
export async function dropIncoming(host: TestHost, match: string): Promise<void> {
  const chain = '{ type filter hook input priority 0 ; }';
  const table = `add table ip firewall ; add chain ip firewall input ${chain}`;
  await host.output(['nft', `${table} ; add rule ip firewall input ${match} drop`]);
}

export async function dropNothing(host: TestHost): Promise<void> {
  await host.output(['nft', 'delete', 'table', 'ip', 'firewall']);
}
