import assert from 'node:assert/strict'

/** Asks a service with `GET /orders/:id` over a real socket for what the suite promises with zero options. */
export async function exercise(app) {
  const address = await app.listen({ port: 0 })

  const order = await fetch(`${address}/orders/1`, { headers: { 'x-request-id': 'consumer-1' } })
  assert.equal(order.status, 200)
  assert.equal(order.headers.get('x-request-id'), 'consumer-1')
  assert.deepEqual(await order.json(), { id: '1', requestId: 'consumer-1' })

  const metrics = await fetch(`${address}/metrics`).then((response) => response.text())
  assert.match(metrics, /^http_server_request_duration_seconds_count\{.*http_route="\/orders\/:id".*\} 1$/m)
  assert.match(metrics, /^process_cpu_seconds_total /m)

  const ready = await fetch(`${address}/health/ready`)
  assert.equal(ready.status, 200)
  await ready.body?.cancel()

  await app.close()
}
