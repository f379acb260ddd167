/** Decodes what comes over one connection of the stream: the frames of each subscription with a reader of their own. Runs in the worker. */
import { FrameReader } from './frames';
import { type ClientMessage, type Columns, type FrameHeader, ProtocolError, unpackHeader } from './protocol';

/** A data frame, decoded. */
export interface Decoded {
  readonly header: FrameHeader;
  readonly columns: Columns;
}

/** What is wrong with a frame. */
export interface Fault {
  readonly fault: string;
}

export class ConnectionDecoder {
  #readers = new Map<number, FrameReader>();

  /** A control message has been sent: subscriptions begin and end with them. */
  sent(text: string): void {
    const message = JSON.parse(text) as ClientMessage;
    if (message.type === 'subscribe') this.#readers.set(message.id, new FrameReader());
    else if (message.type === 'unsubscribe') this.#readers.delete(message.id);
  }

  /** A data frame; null for one of a subscription that has just been closed: it was still on its way. */
  frame(bytes: Uint8Array): Decoded | Fault | null {
    try {
      return this.#readers.get(unpackHeader(bytes).subscription)?.read(bytes) ?? null;
    } catch (error) {
      if (error instanceof ProtocolError) return { fault: error.message };
      throw error;
    }
  }
}
