import Fastify from 'fastify'
import observability, { currentObservation, withSpan } from 'fastify-observability'
import { exercise } from './exercise.mjs'

const app = Fastify()
await app.register(observability)
app.get('/orders/:id', async ({ params }) =>
  withSpan('load order', () => ({ id: params.id, requestId: currentObservation().requestId }))
)
await exercise(app)
