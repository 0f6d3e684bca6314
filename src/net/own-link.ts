/** The interface that the resolver makes (src/dns/io/link.ts): its addresses are nobody's but its own. */
export const DNS_LINK = 'zerohop0';
