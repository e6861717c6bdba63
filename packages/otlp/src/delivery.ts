import { monotonicMs, sleep, within } from '@fastify-observability/observation/internal'
import type { Accounts } from './accounts.ts'
import type { Answer } from './connection.ts'
import type { Destination } from './destination.ts'
import type { Batch } from './encoding/batch.ts'
import { type Failure, waitBeforeRetry } from './failure.ts'
import { connectGrpc } from './grpc.ts'
import { connectHttp } from './http.ts'

/** Sends batches until they are accepted, refused for good, or their time is up. */
export interface Delivery {
  /** Loads what the first batch needs. Never rejects. */
  open(): Promise<void>
  /** Resolves when each item of the batch has been counted. Never rejects. */
  deliver(batch: Batch): Promise<void>
  /** From now on retries come at once, and none is made after `deadline`, as monotonicMs() says it. */
  hurry(deadline: number): void
  /** Ends what is under way. */
  close(): void
}

// Shares of the time for closing, with room for what comes after each.
const RETRY_SHARE = 0.9
const DELIVERY_SHARE = 0.95

type Settle = (items: number, answer: Answer) => void

/** @param totalMs for a batch, all attempts together. */
export function openDelivery(destination: Destination, accounts: Accounts, totalMs: number): Delivery {
  const connection = destination.protocol === 'grpc' ? connectGrpc(destination) : connectHttp(destination)
  const hurrying = new AbortController()
  let stopAt = Number.POSITIVE_INFINITY

  async function attempt(request: Buffer, giveUpAt: number): Promise<Answer> {
    const left = Math.min(giveUpAt, stopAt) - monotonicMs()
    return connection.send(request, Math.max(1, Math.min(destination.timeoutMs, left)))
  }

  async function attempts(request: Buffer, giveUpAt: number): Promise<Answer> {
    for (let retry = 0; ; retry++) {
      const answer = await attempt(request, giveUpAt)
      if ('rejected' in answer || !answer.isTransient) return answer
      const wait = waitBeforeRetry(answer, retry)
      if (monotonicMs() + wait >= Math.min(giveUpAt, stopAt)) return answer
      // The shutdown wakes it for another try at once.
      if ((await pause(wait)) === 'woken') retry = -1
    }
  }

  function pause(ms: number): Promise<unknown> {
    if (hurrying.signal.aborted) return sleep(ms)
    return sleep(ms, 'slept', { signal: hurrying.signal, ref: false }).catch(() => 'woken')
  }

  /** Some entries of a batch. Those of a request that was too large go in two halves. */
  async function send(batch: Batch, from: number, to: number, giveUpAt: number, settle: Settle): Promise<void> {
    const request = batch.encode(from, to)
    const answer = await attempts(request.body, giveUpAt)
    // A client may still hold the bytes of a request that failed.
    if ('rejected' in answer) request.release()
    else if (answer.isTooLarge && to - from > 1) {
      const middle = (from + to) >> 1
      await send(batch, from, middle, giveUpAt, settle)
      return send(batch, middle, to, giveUpAt, settle)
    }
    settle(batch.count(from, to), answer)
  }

  function lossOf({ isTooLarge, isTransient }: Failure): 'too_large' | 'shutdown' | 'export_failed' {
    if (isTooLarge) return 'too_large'
    return hurrying.signal.aborted && isTransient ? 'shutdown' : 'export_failed'
  }

  return {
    open: () => connection.open().then(doNothing, doNothing),
    async deliver(batch) {
      let left = batch.items
      function settle(items: number, answer: Answer): void {
        left -= items
        if ('rejected' in answer) {
          const rejected = Math.min(answer.rejected, items)
          accounts.delivered(items - rejected)
          accounts.lost('rejected', rejected, 'rejected')
        } else {
          accounts.lost(lossOf(answer), items, answer.reason)
        }
      }
      try {
        await batch.ready()
        await send(batch, 0, batch.entries, monotonicMs() + totalMs, settle)
      } catch {
        // The client could not be loaded, or the attributes of the resource could not be had.
        accounts.lost('export_failed', left, 'the exporter failed')
      }
      batch.release()
    },
    hurry(deadline) {
      stopAt = deadline
      hurrying.abort()
    },
    close: connection.close
  }
}

/** Has what is left delivered within the time, counts the rest as lost, and ends what is under way. */
export async function closeInTime(
  delivery: Delivery,
  accounts: Accounts,
  timeoutMs: number,
  deliverRest: () => Promise<void>
): Promise<void> {
  delivery.hurry(monotonicMs() + RETRY_SHARE * timeoutMs)
  await within(DELIVERY_SHARE * timeoutMs, deliverRest())
  accounts.close()
  delivery.close()
}

function doNothing(): void {}
