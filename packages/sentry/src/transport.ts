import type { NodeOptions } from '@sentry/node'
import type { Tally } from './tally.ts'

// An ES import of these loads undici, which is not wanted here.
const http = process.getBuiltinModule('node:http')
const https = process.getBuiltinModule('node:https')

type Transport = NonNullable<NodeOptions['transport']>
type TransportOptions = Parameters<Transport>[0]
type HttpModule = NonNullable<TransportOptions['httpModule']>

const REQUEST_MS = 10_000

/**
 * Gives each request a deadline, and counts what is not sent. The SDK's have none: one that hangs would hold its place in
 * the queue, and the process, for ever.
 * @param closing ends the requests that are under way.
 */
export function boundedTransport(make: Transport, tally: Tally, closing: AbortSignal): Transport {
  return (options) =>
    make({
      ...options,
      httpModule: bounded(options, closing),
      recordDroppedEvent(reason, category, count) {
        // `send_error` is a status, and counted as such.
        if (category === 'error' && reason !== 'send_error') tally.drop(reason, count)
        options.recordDroppedEvent(reason, category, count)
      }
    })
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
