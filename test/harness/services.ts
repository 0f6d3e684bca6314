/** Services and backends through the agent's API: what a test wants in one line. */
import type { ApiAnswer } from './api.ts';
import type { TestHost } from './host.ts';

export interface PortSpec {
  readonly name?: string;
  readonly port: number;
  readonly protocol?: 'tcp' | 'udp';
}

export interface BackendSpec {
  readonly portName?: string;
  readonly address: string;
  readonly port: number;
  readonly weight?: number;
  readonly state?: 'active' | 'draining';
}

export interface ServiceSpec {
  readonly vips?: readonly string[];
  readonly ports: readonly PortSpec[];
  readonly backends?: readonly BackendSpec[];
}

export const VIP4 = '240.0.0.1';
export const VIP6 = 'fd7a:6572:6f68:6f70::1';

function expectDone(what: string, answer: ApiAnswer): void {
  if (answer.status >= 300) throw new Error(`${what}: ${answer.status} ${answer.text}`);
}

export async function putService(host: TestHost, name: string, spec: ServiceSpec): Promise<void> {
  expectDone(`put ${name}`, await host.api('PUT', `/v1/services/${name}`, spec));
}

export async function removeService(host: TestHost, name: string): Promise<void> {
  expectDone(`remove ${name}`, await host.api('DELETE', `/v1/services/${name}`));
}

/** The first VIP of a family that a service has. */
export async function vipOf(host: TestHost, name: string, family: 4 | 6 = 4): Promise<string> {
  const answer = await host.api('GET', `/v1/services/${name}`);
  expectDone(`get ${name}`, answer);
  const { vips } = (answer.json() as { service: { vips: readonly string[] } }).service;
  const vip = vips.find((one) => one.includes(':') === (family === 6));
  if (vip === undefined) throw new Error(`${name} has no VIP of IPv${family}: ${vips.join(' ')}`);
  return vip;
}

const backendPath = (service: string, at: Omit<BackendSpec, 'weight' | 'state'>): string => {
  const endpoint = at.address.includes(':')
    ? `[${at.address}]:${at.port}`
    : `${at.address}:${at.port}`;
  const query = at.portName === undefined ? '' : `?portName=${at.portName}`;
  return `/v1/services/${service}/backends/${encodeURIComponent(endpoint)}${query}`;
};

export async function putBackend(
  host: TestHost,
  service: string,
  backend: BackendSpec,
): Promise<void> {
  const { weight = 1, state = 'active' } = backend;
  const path = backendPath(service, backend);
  expectDone(`put ${path}`, await host.api('PUT', path, { weight, state }));
}

export async function removeBackend(
  host: TestHost,
  service: string,
  backend: BackendSpec,
): Promise<void> {
  const path = backendPath(service, backend);
  expectDone(`remove ${path}`, await host.api('DELETE', path));
}
