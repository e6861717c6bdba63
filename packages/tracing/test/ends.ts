// Whose the ends of requests are, that come over many connections at once.
import { Agent, get } from 'node:http'
import { text } from 'node:stream/consumers'
import { setImmediate as turn } from 'node:timers/promises'
import { currentObservation } from '@fastify-observability/observation'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { type SpanContext, trace } from '@opentelemetry/api'
import Fastify from 'fastify'
import tracing, { type TracingOptions, withSpan } from '../src/index.ts'

export interface End {
  path: string
  /** The current request's. */
  current: string | undefined
  /** The request's span. */
  span: SpanContext | undefined
  /** The active one. */
  active: SpanContext | undefined
  /** One that was started there. */
  below: string
}

/** Answers 400 requests over 40 connections that stay open, a tenth of them with an error, and looks around in `isError`. */
export async function takeEnds(options: TracingOptions = {}): Promise<End[]> {
  const ends: End[] = []
  const app = Fastify()
  await app.register(tracing, {
    shutdownTimeoutMs: PATIENCE_MS,
    ...options,
    isError({ statusCode }, { path, spanContext: span }) {
      const below = withSpan('below', (span) => span.spanContext().spanId)
      ends.push({
        path,
        current: currentObservation()?.path,
        span,
        active: trace.getActiveSpan()?.spanContext(),
        below
      })
      return statusCode >= 500
    }
  })
  app.get('/:id', async ({ url }) => {
    await turn()
    if (url.endsWith('7')) throw new Error('no')
    return 'ok'
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const agent = new Agent({ keepAlive: true, maxSockets: 40 })
  const paths = Array.from({ length: 400 }, (_, index) => `${url}/${index}`)
  await Promise.all(paths.map((path) => new Promise((done) => get(path, { agent }, (answer) => done(text(answer))))))
  agent.destroy()
  await app.close()
  return ends
}

export function isOwn({ path, current, span, active }: End): boolean {
  return path === current && span !== undefined && span.spanId === active?.spanId
}
