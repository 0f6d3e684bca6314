/** Changes that other hosts make. */
import type { BackendRecord, Change, ServiceRecord } from '../../../src/state/records.ts';

export function service(name: string, number: number): ServiceRecord {
  return { name, vips: [`240.0.0.${number}`], ports: [{ name: 'p', port: 80, protocol: 'tcp' }] };
}

export function put(name: string, number: number): Change {
  return { kind: 'put-service', service: service(name, number) };
}

export function backend(name: string, address: string): Change {
  const record: BackendRecord = {
    service: name,
    portName: 'p',
    address,
    port: 8080,
    weight: 1,
    state: 'active',
  };
  return { kind: 'put-backend', backend: record };
}

/** A service with backends. */
export function putAll(name: string, number: number, ...addresses: string[]): Change[] {
  return [put(name, number), ...addresses.map((address) => backend(name, address))];
}

/** A rule that closes a service to everybody. */
export function close(name: string, to: string): Change {
  const target = { kind: 'service', service: to } as const;
  return { kind: 'put-acl', acl: { name, to: target, from: [], action: 'deny' } };
}
