// A service with every part on, which asks itself and ends. CommonJS has no await at the top.
import Fastify from 'fastify'
import observability, { currentObservation, disk, withSpan } from 'fastify-observability'

async function start() {
  const { FILE, LIFECYCLE, TRANSPORT } = process.env
  const transport = { target: 'pino/file', options: { destination: TRANSPORT } }
  const app = Fastify(TRANSPORT ? { logger: { transport } } : {})
  await app.register(observability, {
    service: { name: 'bundled', version: '1.2.3' },
    logging: { otlp: true, ...(FILE && { file: FILE }) },
    tracing: { lifecycleSpans: LIFECYCLE !== undefined },
    metrics: { otlp: true },
    health: { checks: { disk: disk('.') }, pressure: 'both', shutdown: true }
  })
  app.get('/orders/:id', async ({ params }) =>
    withSpan('load order', () => ({ id: params.id, requestId: currentObservation().requestId }))
  )
  app.get('/broken', async () => {
    throw new TypeError('broken')
  })
  const address = await app.listen({ port: 0 })
  const answers = {}
  for (const path of ['/orders/7', '/broken', '/metrics', '/health/ready']) {
    const response = await fetch(address + path, { headers: { 'x-request-id': 'bundle-1' } })
    answers[path] = [response.status, response.headers.get('x-request-id'), await response.text()]
  }
  await app.close()
  process.stderr.write(JSON.stringify(answers))
}

start()
