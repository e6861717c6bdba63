// Exits with an error if code of the application, on its own copy of the API, does not see the request's span.
import assert from 'node:assert/strict'
import { trace } from '@opentelemetry/api'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const lines = []
const app = Fastify()
await app.register(observability, { logging: { stream: { write: (line) => lines.push(JSON.parse(line)) } } })
app.get('/', async () => trace.getActiveSpan()?.spanContext().traceId ?? 'none')
const { body } = await app.inject('/')
await app.close()
assert.match(body, /^[0-9a-f]{32}$/)
assert.equal(lines.find(({ msg }) => msg === 'request completed')?.trace_id, body)
console.log(
  lines
    .filter(({ level }) => level === 'warn')
    .map(({ msg }) => msg)
    .join('\n')
)
