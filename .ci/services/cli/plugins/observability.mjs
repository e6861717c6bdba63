import observability from 'fastify-observability'
import fp from 'fastify-plugin'

export default fp(async (app) => app.register(observability))
