/** A service `web` and its backend, as records and as changes. */
import type {
  BackendOwner,
  BackendRecord,
  Change,
  ServiceRecord,
} from '../../src/state/records.ts';

export const web: ServiceRecord = {
  name: 'web',
  vips: ['240.0.0.80'],
  ports: [
    { name: 'http', port: 80, protocol: 'tcp' },
    { name: 'dns', port: 53, protocol: 'udp' },
  ],
};
export const owner: BackendOwner = { pid: 7, startTicks: 1, bootId: 'b', command: 'c' };
export const backend: BackendRecord = {
  service: 'web',
  portName: 'http',
  address: '10.0.0.1',
  port: 8080,
  weight: 1,
  state: 'active',
};
export const putWeb = { kind: 'put-service', service: web } as const satisfies Change;
