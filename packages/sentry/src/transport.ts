import { documented, isRecord, runInBackground, watchResult } from '@fastify-observability/observation/internal'
import type { NodeClient, NodeOptions } from '@sentry/node'
import type { Counters } from './counters.ts'
import { NAME } from './options.ts'

// An ES import of these loads undici, which is not wanted here.
const http = process.getBuiltinModule('node:http')
const https = process.getBuiltinModule('node:https')

type Transport = NonNullable<NodeOptions['transport']>
type TransportOptions = Parameters<Transport>[0]
type HttpModule = NonNullable<TransportOptions['httpModule']>

const REQUEST_MS = 10_000

/**
 * Gives each delivery a deadline, and counts what is not sent. The SDK's deliveries have none: one that hangs would keep
 * its place in the queue, and the process, for ever.
 * @param closing ends the deliveries that are pending.
 */
export function boundedTransport(make: Transport, counters: Counters, closing: AbortSignal): Transport {
  return (options) => {
    const transport = make({
      ...options,
      httpModule: bounded(options, closing),
      recordDroppedEvent(reason, category, count) {
        // `send_error` is a status, and counted as such.
        if (category === 'error' && reason !== 'send_error') counters.dropped.add(reason, count)
        options.recordDroppedEvent(reason, category, count)
      }
    })
    if (isRecord(transport) && typeof transport.send === 'function') return transport
    watchResult(transport, () => undefined)
    throw documented(
      new TypeError(`${NAME}: option "sdk.transport" must return a transport of Sentry's`),
      'wrong-options'
    )
  }
}

function bounded({ url, httpModule }: TransportOptions, closing: AbortSignal): HttpModule {
  const { request }: HttpModule = httpModule ?? (url.startsWith('https:') ? https : http)
  return {
    request(options, callback) {
      if (typeof options === 'string' || options instanceof URL) return request(options, callback)
      const signal = AbortSignal.any([closing, AbortSignal.timeout(REQUEST_MS)])
      return request({ ...options, signal }, callback)
    }
  }
}

/** For events that nobody has asked to send: a test looks at them, and they go nowhere. */
export const noTransport: Transport = () => ({ send: async () => ({}), flush: async () => true })

/** Has a client deliver outside of requests: no delivery is traced, or carries ids of the request that failed. */
export function deliverInBackground(client: NodeClient, counters: Counters): void {
  const transport = client.getTransport()
  if (!transport) return
  const send = transport.send.bind(transport)
  transport.send = async (envelope) => {
    const [, items] = envelope
    const isEvent = items.some(([{ type }]) => type === 'event')
    if (isEvent) counters.waiting++
    try {
      return await runInBackground(send, envelope)
    } finally {
      if (isEvent) counters.waiting--
    }
  }
}
