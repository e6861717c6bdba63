const Fastify = require('fastify')
const observability = require('fastify-observability')
const { exercise } = require('./exercise.mjs')

// As CommonJS services do: no await, and the module itself for a plugin.
exports.build = () => {
  const app = Fastify()
  app.register(observability)
  app.get('/orders/:id', async ({ params }) =>
    observability.withSpan('load order', () => ({
      id: params.id,
      requestId: observability.currentObservation().requestId
    }))
  )
  return app
}

if (require.main === module) exercise(exports.build())
