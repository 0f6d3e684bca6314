/**
 * Defaults that the command line needs before (or without) reading any
 * configuration; no imports, so that `zerohop --help` stays quick.
 */
export const DEFAULT_CONFIG_PATH = '/etc/zerohop/zerohop.yaml';
export const DEFAULT_SOCKET_PATH = '/run/zerohop/agent.sock';
export const DEFAULT_DATA_DIR = '/var/lib/zerohop';
export const DEFAULT_PIN_DIR = '/sys/fs/bpf/zerohop';
export const DEFAULT_METRICS_PORT = 9477;
/** `.internal` is for private use, and nobody's for ever (ICANN board resolution of 29 July 2024). */
export const DEFAULT_DNS_DOMAIN = 'zerohop.internal';
