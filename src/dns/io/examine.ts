/** For `zerohop doctor`: whether the kernel answers DNS by itself here, or could. Asks the kernel, no agent. */
import { existsSync } from 'node:fs';
import { BpfMap, openObject } from '../../../addon/index.ts';
import { objectPath } from '../../datapath/io/object.ts';
import type { Pins } from '../../datapath/io/pins.ts';
import { dnsDecoders } from '../dump.ts';
import { isEgressInPlace, whyUnavailable } from './kernel.ts';
import { whyLoopbackIsOpen } from './link.ts';

export interface KernelDnsReport {
  /** `idle`: in place, but nobody is led there. */
  readonly state: 'active' | 'idle' | 'possible' | 'impossible';
  readonly text: string;
}

/** Never throws for what it finds. */
export function examineKernelDns(pins: Pins): KernelDnsReport {
  try {
    if (isEgressInPlace(pins) && existsSync(pins.map('zh_dns_config'))) return inPlace(pins);
    const open = whyLoopbackIsOpen();
    if (open !== undefined) return { state: 'impossible', text: `no: ${open}` };
    const object = openObject(objectPath('zerohop_dns'));
    try {
      object.load().close();
    } finally {
      object.close();
    }
    return { state: 'possible', text: 'possible; no agent has put it in place' };
  } catch (error) {
    return { state: 'impossible', text: `no: ${whyUnavailable(error)}` };
  }
}

function inPlace(pins: Pins): KernelDnsReport {
  using map = BpfMap.openPinned(pins.map('zh_dns_config'));
  const key = new Uint8Array(4);
  const { redirecting4 = false, redirecting6 = false } =
    dnsDecoders.zh_dns_config(key, map.get(key) ?? new Uint8Array()) ?? {};
  const families = [redirecting4 === true ? ['IPv4'] : [], redirecting6 === true ? ['IPv6'] : []];
  const clients = families.flat().join(' and ');
  if (clients === '') {
    const why = whyLoopbackIsOpen() ?? 'see zerohop dns status';
    return { state: 'idle', text: `in place, but nobody is led there: ${why}` };
  }
  return { state: 'active', text: `active: clients over ${clients} are led there` };
}
