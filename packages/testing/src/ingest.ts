import { EventEmitter, once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { gunzipSync } from 'node:zlib'

export interface SentryEvent {
  event_id: string
  timestamp?: number
  level?: string
  message?: string
  transaction?: string
  environment?: string
  release?: string
  fingerprint?: string[]
  tags?: Record<string, unknown>
  user?: Record<string, unknown>
  request?: Record<string, unknown>
  extra?: Record<string, unknown>
  breadcrumbs?: { category?: string; level?: string; message?: string; data?: unknown }[]
  contexts?: { trace?: { trace_id: string; span_id: string } }
  exception?: { values: { type: string; value: string; mechanism?: { type?: string; handled?: boolean } }[] }
}

/** One part of an envelope, such as an event, spans, a session or a report of the client's. */
export interface SentryItem {
  type: string
  payload: unknown
}

/** What an envelope is answered: a status and headers; nothing; the end of the connection. */
export type IngestAnswer = { status: number; headers?: Record<string, string> } | 'hang' | 'reset'

export interface Ingest {
  dsn: string
  /** Set it to break the ingest. */
  answer: IngestAnswer
  /** Everything received so far, whatever was answered. */
  events: SentryEvent[]
  /** Those of the envelopes that were answered with a status below 300. */
  accepted: SentryEvent[]
  items: SentryItem[]
  /** The envelopes as they came, unzipped. */
  envelopes: string[]
  /** Resolves with the first event that matches, received already or to come. */
  event(matches: (event: SentryEvent) => boolean): Promise<SentryEvent>
  /** Resolves with the first item of the type, received already or to come. */
  item(type: string): Promise<SentryItem>
  close(): Promise<void>
}

/** `undefined` for one whose sender has gone. */
async function envelopeOf(request: IncomingMessage): Promise<string | undefined> {
  const body = await buffer(request).catch(() => undefined)
  return body && (request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body).toString()
}

// A header line, then a header and a payload line an item: https://develop.sentry.dev/sdk/data-model/envelopes/
function itemsOf(envelope: string) {
  const [, ...lines] = envelope.trimEnd().split('\n')
  return lines.flatMap((line, index) =>
    index % 2 === 0 ? [{ type: JSON.parse(line).type, payload: JSON.parse(lines[index + 1] ?? 'null') }] : []
  )
}

/** An HTTP server that takes Sentry envelopes and parses their events. */
export async function startIngest(): Promise<Ingest> {
  const events: SentryEvent[] = []
  const accepted: SentryEvent[] = []
  const items: SentryItem[] = []
  const envelopes: string[] = []
  const arrivals = new EventEmitter()
  const server = createServer(async (request, response) => {
    const envelope = await envelopeOf(request)
    if (envelope === undefined) return
    envelopes.push(envelope)
    const { answer } = ingest
    const isAccepted = typeof answer === 'object' && answer.status < 300
    for (const item of itemsOf(envelope)) {
      items.push(item)
      if (item.type !== 'event') continue
      events.push(item.payload)
      if (isAccepted) accepted.push(item.payload)
    }
    arrivals.emit('envelope')
    if (answer === 'reset') request.socket.destroy()
    if (typeof answer === 'string') return
    response.writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers }).end('{}')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('the ingest has no port')

  async function first<Thing>(things: Thing[], matches: (thing: Thing) => boolean): Promise<Thing> {
    for (;;) {
      const found = things.find(matches)
      if (found) return found
      await once(arrivals, 'envelope')
    }
  }

  const ingest: Ingest = {
    dsn: `http://key@127.0.0.1:${address.port}/1`,
    answer: { status: 200 },
    events,
    accepted,
    items,
    envelopes,
    event: (matches) => first(events, matches),
    item: (type) => first(items, (item) => item.type === type),
    async close() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    }
  }
  return ingest
}
