/** Zones of the names that addresses have (RFC 1035 3.5, RFC 3596 2.5). */
import type { Cidr } from '../net/cidr.ts';

/**
 * Those that are in the block, whole: a zone ends at 8 bits of IPv4 and at 4 of IPv6, so that a
 * block that ends between takes several.
 */
export function reverseZones({ family, first, prefixLength }: Cidr): string[] {
  const [digits, bits, base, end] =
    family === 4
      ? [Array.from(first.slice(12)), 8, 10, 'in-addr.arpa']
      : [[...first].flatMap((byte) => [byte >> 4, byte & 15]), 4, 16, 'ip6.arpa'];
  const whole = Math.ceil(prefixLength / bits);
  const free = whole * bits - prefixLength;
  const labels = digits.slice(0, whole);
  const last = labels.pop() ?? 0;
  if (whole === 0) return [end];
  return Array.from({ length: 2 ** free }, (_, i) =>
    [...labels, last + i]
      .toReversed()
      .map((digit) => digit.toString(base))
      .concat(end)
      .join('.'),
  );
}
