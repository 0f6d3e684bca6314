/** Configurations for test hosts. */

/** Maps small enough to be dumped whole, in milliseconds. */
export const smallMaps = {
  services: 64,
  backends: 256,
  slots: 1024,
  sockets: 1024,
  socketsSpilled: 1024,
} as const;

export const smallConfig = { maps: smallMaps } as const;
