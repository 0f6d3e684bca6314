/** The interface that the resolver makes (src/dns/io/link.ts): its addresses are nobody's but its own. */
export const DNS_LINK = 'zerohop0';

/** The link's IPv4 addresses, `here` and `there` of bpf/README.md: in 127/8, which no other interface takes packets of. */
export const DNS_LINK_HERE = '127.53.53.54';
export const DNS_LINK_THERE = '127.53.53.55';
