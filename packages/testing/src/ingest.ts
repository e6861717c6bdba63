import { EventEmitter, once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { gunzipSync } from 'node:zlib'

export interface SentryEvent {
  event_id: string
  transaction?: string
  environment?: string
  release?: string
  tags?: Record<string, unknown>
  contexts?: { trace?: { trace_id: string; span_id: string } }
  exception?: { values: { type: string; value: string; mechanism?: { handled?: boolean } }[] }
}

export interface Ingest {
  dsn: string
  /** Everything received so far. */
  events: SentryEvent[]
  /** The envelopes as they came, unzipped. */
  envelopes: string[]
  /** Resolves with the first event that matches, received already or to come. */
  event(matches: (event: SentryEvent) => boolean): Promise<SentryEvent>
  close(): Promise<void>
}

async function envelopeOf(request: IncomingMessage): Promise<string> {
  const body = await buffer(request)
  return (request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body).toString()
}

// A header line, then a header line and a payload line an item: https://develop.sentry.dev/sdk/data-model/envelopes/
function eventsOf(envelope: string): SentryEvent[] {
  const [, ...items] = envelope.trimEnd().split('\n')
  return items.flatMap((line, index) =>
    index % 2 === 0 && JSON.parse(line).type === 'event' ? [JSON.parse(items[index + 1] ?? 'null')] : []
  )
}

/** An HTTP server that takes Sentry envelopes and parses their events. */
export async function startIngest(): Promise<Ingest> {
  const events: SentryEvent[] = []
  const envelopes: string[] = []
  const arrivals = new EventEmitter()
  const server = createServer(async (request, response) => {
    const envelope = await envelopeOf(request)
    envelopes.push(envelope)
    events.push(...eventsOf(envelope))
    arrivals.emit('event')
    response.setHeader('content-type', 'application/json').end('{}')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('the ingest has no port')
  return {
    dsn: `http://key@127.0.0.1:${address.port}/1`,
    events,
    envelopes,
    async event(matches) {
      for (;;) {
        const found = events.find(matches)
        if (found) return found
        await once(arrivals, 'event')
      }
    },
    async close() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    }
  }
}
