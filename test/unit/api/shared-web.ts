/** Two services of a cluster, as they look from one of its hosts while another one is gone. */
import { endpointText } from '../../../src/catalog/context.ts';
import type { BackendRecord, Change } from '../../../src/state/records.ts';
import { pools } from '../state/generators.ts';
import type { FakeEngine } from './fake-engine.ts';

/** Of the host that is gone. */
const process = { pid: 7, startTicks: 1, bootId: 'b', command: 'httpd' };
const OF_N2 = { node: 'n2', owner: process };

function backend(
  portName: string,
  address: string,
  port: number,
  more: Partial<BackendRecord> = {},
): Change {
  const record = { service: 'web', portName, address, port, weight: 1, state: 'active', ...more };
  return { kind: 'put-backend', backend: record as BackendRecord };
}

/** web2 recorded the VIP that web has; n2, called east2, has most of web's backends. */
export function shareWeb(engine: FakeEngine): void {
  const http = { name: 'http', port: 80, protocol: 'tcp' } as const;
  const dns = { name: 'dns', port: 53, protocol: 'udp' } as const;
  const vips = ['252.0.0.1'];
  engine.receive(
    { kind: 'put-service', service: { name: 'web', vips, ports: [http, dns] } },
    { kind: 'put-service', service: { name: 'web2', vips, ports: [http] } },
    backend('http', '10.0.0.1', 8080),
    backend('http', '10.0.0.2', 8080, OF_N2),
    backend('http', '10.0.0.2', 8081, { ...OF_N2, state: 'draining' }),
    backend('http', '10.0.0.3', 8080),
    backend('http', '127.0.0.1', 8080, OF_N2),
    backend('dns', '10.0.0.2', 5353, OF_N2),
  );
  const n2 = {
    name: 'east2',
    zone: '',
    version: '0.1.0',
    address: '10.0.0.2:7946',
    addresses: ['10.0.0.2'],
    signer: false,
  };
  engine.known = {
    pools,
    self: 'n1',
    records: new Map([['n2', n2]]),
    unreachable: new Set(['n2']),
    unhealthy: new Set([endpointText('10.0.0.3', 8080, 'tcp')]),
  };
}
