import { currentScope, elapsedMs } from '@fastify-observability/observation/internal'
import { type Attributes, type AttributeValue, isSpanContextValid, type Span } from '@opentelemetry/api'

export const SYSTEM = 'db.system.name'
/** How many commands one span stands for, where it is more than one. */
export const BATCH_SIZE = 'db.operation.batch.size'
// pg-pool.connect, pg.connect, redis-connect and connect are no calls.
const CONNECT = /\bconnect$/

// Of those that an instrumentation makes a span of in the very call in which the client publishes it.
const instrumented = new Set<AttributeValue>()

/** Counts a call of a database for the request or job that it is made for, whether or not its trace is sampled. */
export function countCall(span: Span, name: string, attributes: Attributes): void {
  if (attributes[SYSTEM] === undefined || CONNECT.test(name)) return
  const observation = currentScope()?.observation
  // A span without ids stands for what is not traced.
  if (!observation || !isSpanContextValid(span.spanContext())) return
  const startedAt = performance.now()
  const { end } = span
  let hasEnded = false
  observation.databaseCalls += Number(attributes[BATCH_SIZE] ?? 1)
  span.end = (time) => {
    if (!hasEnded) observation.databaseMs += elapsedMs(startedAt)
    hasEnded = true
    end.call(span, time)
  }
}

/** Notes that an instrumentation has made a span of the call that goes on. */
export function noteInstrumented(_span: Span, _name: string, attributes: Attributes): void {
  const system = attributes[SYSTEM]
  if (system === undefined) return
  // A command that has to wait for its connection is published later, or by nobody.
  if (instrumented.size === 0) Promise.resolve().then(() => instrumented.clear())
  instrumented.add(system)
}

/** Whether an instrumentation has made a span of the call that goes on; asking again answers no. */
export function wasInstrumented(system: AttributeValue): boolean {
  return instrumented.delete(system)
}
