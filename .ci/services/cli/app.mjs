// What `fastify start` runs: everything in plugins, then everything in routes.
import { join } from 'node:path'
import autoload from '@fastify/autoload'
import fp from 'fastify-plugin'

// Without fp() the suite would be in a child instance, and not see what no route of the app answers.
export default fp(async (app, _options) => {
  await app.register(autoload, { dir: join(import.meta.dirname, 'plugins') })
  await app.register(autoload, { dir: join(import.meta.dirname, 'routes') })
})
