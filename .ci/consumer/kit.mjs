// Tests an app by the kit, in node:test: `node kit.mjs ./service.ts`, or `node kit.mjs ./part.mjs NAME` for that of one part.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { observe } from 'fastify-observability/testing'

const [, , file, part] = process.argv
const { build } = await import(file)

async function seenOf(t) {
  const app = await build(part)
  t.after(() => app.close())
  const seen = await observe(app)
  await app.inject({ url: '/orders/1', headers: { 'x-request-id': 'kit-1' } })
  return seen.request({ route: '/orders/:id' })
}

test('a request is counted', async (t) => {
  const { statusCode, metrics, event } = await seenOf(t)
  assert.equal(statusCode, 200)
  assert.equal(metrics.http_server_request_duration_seconds.value, 1)
  assert.equal(event, undefined)
})

test('it has its line and its spans', { skip: part && 'of the umbrella' }, async (t) => {
  const { line, spans } = await seenOf(t)
  assert.equal(line.request_id, 'kit-1')
  assert.deepEqual(
    spans.map(({ name }) => name),
    ['load order', 'GET /orders/:id']
  )
})
