/**
 * A connection between two nodes from the greeting to its end, with what the two
 * told each other. Which link of a pair is used is decided in transport.ts.
 */
import type { TLSSocket } from 'node:tls';
import type { Peer } from '../../hyparview-ts/index.ts';
import type { Channel } from '../channels.ts';
import type { Control } from '../greeting.ts';
import type { Established } from '../rivals.ts';
import type { Clock } from './clock.ts';
import { Connection, type CloseReason, type ConnectionLimits } from './connection.ts';
import type { Authenticated } from './identity.ts';
import type { Metrics } from './metrics.ts';

export interface LinkHandlers {
  /** Before it is open only; what is not expected ends it. */
  greeting(link: Link, control: Control): void;
  message(link: Link, channel: Channel, message: Uint8Array): void;
  ending(link: Link): void;
  closed(link: Link, reason: CloseReason, detail: string): void;
}

export class Link {
  readonly id: string;
  readonly dialledBy: 'self' | 'peer';
  readonly connection: Connection;
  /** '' until the greeting. */
  connectionId = '';
  instance = '';
  software = '';
  protocol = 0;
  peer: Peer | undefined;
  openedAt = 0;
  isOpen = false;

  constructor(
    socket: TLSSocket,
    who: Authenticated,
    dialledBy: 'self' | 'peer',
    options: { clock: Clock; limits: ConnectionLimits; metrics: Metrics },
    handlers: LinkHandlers,
  ) {
    this.id = who.nodeId;
    this.dialledBy = dialledBy;
    this.connection = new Connection(socket, who, options, {
      control: (control) => {
        if (this.isOpen) this.connection.close('protocol', `${control.type} once more`);
        else handlers.greeting(this, control);
      },
      message: (channel, message) => handlers.message(this, channel, message),
      ending: () => handlers.ending(this),
      closed: (reason, detail) => handlers.closed(this, reason, detail),
    });
  }

  get established(): Established {
    const { connectionId: connection, instance, dialledBy } = this;
    return { connection, instance, dialledBy };
  }

  open(nowMs: number): void {
    this.isOpen = true;
    this.openedAt = nowMs;
    this.connection.open();
  }
}
