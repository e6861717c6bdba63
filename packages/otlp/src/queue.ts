import { clearTimeout, runInBackground, setTimeout } from '@fastify-observability/observation/internal'
import type { Accounts, Dropped } from './accounts.ts'
import { closeInTime, type Delivery } from './delivery.ts'
import { Batch, type Resource, type Scope } from './encoding/batch.ts'

/** What a batch takes of an item. */
interface Entry {
  resource: Resource
  scope: Scope
  /** The encoded item, a character for each byte. */
  content: string
}

/** How one kind of item is encoded. */
export interface Encoder<Item> {
  /** Throws what the item's own objects throw. */
  encode(item: Item): Entry
  /** The item with texts of so many characters at most, and without its parts. */
  cut(item: Item, characters: number): Item
}

export interface QueueLimits {
  maxQueueSize: number
  maxBatchSize: number
  delayMs: number
}

/** Gathers items into batches, and gives one after the other to the delivery. */
export interface Queue<Item> {
  add(item: Item): void
  /** Resolves when all that is held has been delivered or dropped. Never rejects. */
  flush(): Promise<void>
  /** Delivers what is held; resolves at the latest after so long. Nothing keeps the process then. Never rejects. */
  close(timeoutMs: number): Promise<void>
}

// What a gRPC server takes by default is 4 MiB.
export const MAX_BATCH_BYTES = 3 * 1024 * 1024
const MAX_HELD_BYTES = 64 * 1024 * 1024
const MAX_WAITING = 8
const CUT_CHARACTERS = [16_384, 1_024, 128]

export function openQueue<Item>(
  { encode, cut }: Encoder<Item>,
  { maxQueueSize, maxBatchSize, delayMs }: QueueLimits,
  accounts: Accounts,
  delivery: Delivery
): Queue<Item> {
  const full: Batch[] = []
  let filling = new Batch()
  let heldBytes = 0
  let queued = 0
  let timer: NodeJS.Timeout | undefined
  let isSending = false
  let isClosed = false
  const deliveries = new Set<Promise<void>>()

  // Encoded together: what does it is more than a processor keeps at hand while a request is served.
  let waiting: Item[] = []

  function encodeWaiting(): void {
    const items = waiting
    waiting = []
    for (const item of items) put(item)
    filling.settle()
  }

  function put(item: Item): void {
    const entry = encoded(item)
    if (typeof entry === 'string') {
      lose(entry)
    } else if (heldBytes + entry.content.length > MAX_HELD_BYTES) {
      lose('queue_full')
    } else {
      hold(entry)
    }
  }

  function hold({ resource, scope, content }: Entry): void {
    if (filling.bytes + content.length > MAX_BATCH_BYTES) closeBatch()
    const before = filling.bytes
    filling.add(resource, scope, content)
    heldBytes += filling.bytes - before
    if (filling.entries >= maxBatchSize) closeBatch()
  }

  function encoded(item: Item): Entry | 'not_encodable' | 'too_large' {
    try {
      const entry = encode(item)
      if (entry.content.length <= MAX_BATCH_BYTES) return entry
      for (const characters of CUT_CHARACTERS) {
        const shorter = encode(cut(item, characters))
        if (shorter.content.length <= MAX_BATCH_BYTES) return shorter
      }
      return 'too_large'
    } catch {
      return 'not_encodable'
    }
  }

  function lose(reason: Dropped): void {
    queued--
    accounts.take(-1)
    accounts.drop(reason, 1)
  }

  function closeBatch(): void {
    if (filling.entries === 0) return
    filling.settle()
    full.push(filling)
    filling = new Batch()
  }

  function nextBatch(): Batch {
    const batch = full.shift() ?? filling
    if (batch === filling) filling = new Batch()
    return batch
  }

  function send(batch: Batch): Promise<void> {
    const { items, bytes } = batch
    queued -= items
    accounts.handOver(items)
    const sent = delivery.deliver(batch).then(() => {
      heldBytes -= bytes
      deliveries.delete(sent)
    })
    deliveries.add(sent)
    return sent
  }

  // One at a time, and the others wait where they are counted.
  async function sendOne(): Promise<void> {
    timer = clear(timer)
    encodeWaiting()
    if (queued === 0) return
    isSending = true
    await send(nextBatch())
    isSending = false
    schedule()
  }

  function schedule(): void {
    if (isSending || queued === 0) return
    if (full.length > 0) void runInBackground(sendOne)
    else timer ??= runInBackground(() => setTimeout(sendOne, delayMs).unref())
  }

  async function flush(): Promise<void> {
    timer = clear(timer)
    encodeWaiting()
    while (queued > 0) void send(nextBatch())
    await Promise.all(deliveries)
  }

  return {
    add(item) {
      if (isClosed) return accounts.drop('shutdown', 1)
      if (accounts.held() >= maxQueueSize) return accounts.drop('queue_full', 1)
      accounts.take(1)
      queued++
      waiting.push(item)
      if (waiting.length === MAX_WAITING) encodeWaiting()
      schedule()
    },
    flush: () => runInBackground(flush),
    async close(timeoutMs) {
      if (isClosed) return
      isClosed = true
      await closeInTime(delivery, accounts, timeoutMs, () => runInBackground(flush))
    }
  }
}

function clear(timer: NodeJS.Timeout | undefined): undefined {
  clearTimeout(timer)
}
