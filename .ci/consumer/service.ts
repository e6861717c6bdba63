import Fastify from 'fastify'
import observability, { currentObservation, type ObservabilityOptions, withSpan } from 'fastify-observability'
import { exercise } from './exercise.mjs'

const options: ObservabilityOptions = {
  service: { name: 'orders' },
  health: { checks: { database: () => true } },
  sentry: false
}

export async function build() {
  const app = Fastify()
  await app.register(observability, options)
  const orders = app.metrics.counter({ name: 'orders_total', help: 'Orders.', labelNames: ['kind'] })
  app.get<{ Params: { id: string } }>('/orders/:id', async ({ params, observation, span }) => {
    orders.inc({ kind: 'book' })
    observation.add({ plan: 'pro' })
    span?.setAttribute('order.kind', 'book')
    return withSpan('load order', () => ({ id: params.id, requestId: currentObservation()?.requestId }))
  })
  return app
}

if (import.meta.main) await exercise(await build())
