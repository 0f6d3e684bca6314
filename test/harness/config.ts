/** Configurations for test hosts. */

/** Maps small enough to be dumped whole, in milliseconds. */
export const smallMaps = {
  services: 64,
  backends: 256,
  slots: 1024,
  sockets: 1024,
  socketsSpilled: 1024,
} as const;

/** Many backends of tests have no server, and are to be used all the same. */
export const withoutHealth = { health: { listening: false } } as const;

export const smallConfig = { maps: smallMaps, ...withoutHealth } as const;
