import type { Failure } from './failure.ts'

/** One attempt: how many items of an accepted request were rejected, or why it was not accepted. */
export type Answer = { rejected: number } | Failure

export interface Connection {
  /** Loads the client, which takes a while. The first `send` does it too. Rejects if there is none. */
  open(): Promise<unknown>
  /** Sends an Export…ServiceRequest and waits at most so long for the answer. Rejects only if there is no client. */
  send(request: Buffer, timeoutMs: number): Promise<Answer>
  /** Ends what is under way, and nothing keeps the process any more. */
  close(): void
}
