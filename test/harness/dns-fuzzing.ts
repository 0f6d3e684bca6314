/** Mutated messages at a real agent, and a liar as its name server: a host for them, and one run. */
import { join } from 'node:path';
import type { FuzzOptions, FuzzResult } from '../system/clients/dns-fuzz.ts';
import { withoutHealth } from './config.ts';
import { checkout, TestHost } from './host.ts';
import { putService } from './services.ts';

export const RESOLVER = '127.0.0.55';
export const LIAR = '10.53.0.1';
export const DOMAIN = 'zerohop.internal';

/** Names that the host below has, and some that it has not. */
export const NAMES: readonly string[] = [
  DOMAIN,
  `web.${DOMAIN}`,
  `_http._tcp.web.${DOMAIN}`,
  `_tcp.web.${DOMAIN}`,
  `backends.web.${DOMAIN}`,
  `large.${DOMAIN}`,
  `_http._tcp.large.${DOMAIN}`,
  `backends.large.${DOMAIN}`,
  `10-1-2-3.addr.${DOMAIN}`,
  `ready.${DOMAIN}`,
  `ns.${DOMAIN}`,
  `node.${DOMAIN}`,
  `alias.${DOMAIN}`,
  `nobody.${DOMAIN}`,
  'outside.test',
  '9.254.254.254.in-addr.arpa',
  '1.0.0.127.in-addr.arpa',
  'localhost',
  'version.bind',
  '',
];

/** An agent with a few names, that forwards to the liar. */
export async function fuzzHost(): Promise<TestHost> {
  const host = await TestHost.create();
  try {
    await furnish(host);
  } catch (error) {
    await host[Symbol.asyncDispose]();
    throw error;
  }
  return host;
}

async function furnish(host: TestHost): Promise<void> {
  await host.ip('address', 'add', `${LIAR}/32`, 'dev', 'lo');
  const dns = { domain: DOMAIN, upstreams: [`${LIAR}:53`] };
  await host.agent.start({ config: host.writeConfig({ ...withoutHealth, dns }) });
  const backends = (count: number): { address: string; port: number; portName: string }[] =>
    Array.from({ length: count }, (_, i) => ({
      address: `10.9.${i >> 8}.${i & 255}`,
      port: 8080,
      portName: 'http',
    }));
  const ports = [{ port: 80, name: 'http' }];
  await putService(host, 'web', {
    vips: ['254.254.254.9', 'fd7a:6572:6f68:6f70::9'],
    ports,
    backends: backends(5),
  });
  await putService(host, 'large', { ports, backends: backends(300) });
  const documents = [
    { kind: 'record', name: `alias.${DOMAIN}`, type: 'CNAME', data: [`web.${DOMAIN}`] },
    { kind: 'record', name: 'outside.test', type: 'TXT', data: ['hello'] },
  ];
  const answer = await host.api('POST', '/v1/apply', { documents });
  if (answer.status !== 200) throw new Error(`apply: ${answer.status} ${answer.text}`);
}

/** One run of test/system/clients/dns-fuzz.ts on this host. */
export async function fuzz(
  host: TestHost,
  options: Pick<FuzzOptions, 'transport' | 'count' | 'seed' | 'dump'>,
  timeoutMs: number,
): Promise<FuzzResult> {
  const script = join(checkout, 'test/system/clients/dns-fuzz.ts');
  const words = JSON.stringify({ ...options, address: RESOLVER, upstream: LIAR, names: NAMES });
  const { code, stdout, stderr } = await host.exec([process.execPath, script, words], {
    timeoutMs,
  });
  const last = stdout.trim().split('\n').at(-1) ?? '';
  if (code !== 0 || !last.includes('faults'))
    throw new Error(`the fuzzer ended with ${code} (seed ${options.seed}): ${stderr}${last}`);
  return JSON.parse(last) as FuzzResult;
}
