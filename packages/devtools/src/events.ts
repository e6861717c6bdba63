import type { FastifyReply } from 'fastify'
import { protect } from './locks.ts'
import type { RequestRow } from './view.ts'

/** The pages that are open, and what they are sent. */
export interface Events {
  readonly hasPages: boolean
  /** Makes the reply a stream of server-sent events. */
  open(reply: FastifyReply): void
  /** Sends the row soon, or what has become of it by then. */
  send(id: string, row: () => RequestRow | undefined): void
  /** Sends soon how many were not recorded. */
  count(unrecorded: number): void
  close(): void
}

const GATHER_MS = 100
const HEARTBEAT_MS = 15_000
const MAX_PAGES = 16
// A page that does not read is let go, and asks again when it does.
const MAX_UNREAD_BYTES = 1024 * 1024

export function createEvents(): Events {
  const pages = new Set<FastifyReply['raw']>()
  const changed = new Map<string, () => RequestRow | undefined>()
  let unrecorded: number | undefined
  let gathering: NodeJS.Timeout | undefined
  let heartbeat: NodeJS.Timeout | undefined

  function write(text: string): void {
    for (const page of pages) {
      if (page.writableLength > MAX_UNREAD_BYTES) page.destroy()
      else page.write(text)
    }
  }

  function flush(): void {
    gathering = undefined
    const rows = Array.from(changed.values(), (row) => row()).filter((row) => row !== undefined)
    changed.clear()
    if (rows.length > 0) write(`event: requests\ndata: ${JSON.stringify(rows)}\n\n`)
    if (unrecorded !== undefined) write(`event: unrecorded\ndata: ${unrecorded}\n\n`)
    unrecorded = undefined
  }

  function leave(page: FastifyReply['raw']): void {
    pages.delete(page)
    if (pages.size > 0) return
    clearInterval(heartbeat)
    clearTimeout(gathering)
    heartbeat = gathering = undefined
    changed.clear()
  }

  return {
    get hasPages() {
      return pages.size > 0
    },
    open(reply) {
      const [oldest] = pages
      if (oldest && pages.size === MAX_PAGES) oldest.end()
      protect(reply)
      const headers = Object.entries({ ...reply.getHeaders(), 'content-type': 'text/event-stream' })
      const { raw } = reply.hijack()
      for (const [name, value] of headers) if (value !== undefined) raw.setHeader(name, value)
      raw.write('retry: 1000\n\n')
      pages.add(raw)
      raw.once('close', () => leave(raw))
      heartbeat ??= setInterval(() => write(': alive\n\n'), HEARTBEAT_MS).unref()
    },
    send(id, row) {
      if (pages.size === 0) return
      changed.set(id, row)
      gathering ??= setTimeout(flush, GATHER_MS)
    },
    count(now) {
      if (pages.size === 0) return
      unrecorded = now
      gathering ??= setTimeout(flush, GATHER_MS)
    },
    close() {
      for (const page of pages) page.end()
    }
  }
}
