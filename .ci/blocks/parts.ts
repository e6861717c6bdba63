/** What blocks use and do not define, by the name that `<!-- run: with=… -->` has for it. Later ones may use earlier ones. */
export const PARTS: Record<string, string> = {
  app: "import Fastify from 'fastify'\nconst app = Fastify()",
  observability: "import observability from 'fastify-observability'",
  metrics: "import metrics from '@fastify-observability/metrics'",
  logging: "import logging from '@fastify-observability/logging'",
  tracing: "import tracing from '@fastify-observability/tracing'",
  postgres: "import { postgres } from 'fastify-observability'",
  currentObservation: "import { currentObservation } from 'fastify-observability'",
  getOrder: `import type { FastifyRequest } from 'fastify'
async function getOrder({ params }: FastifyRequest) {
  return params
}`,
  // Nothing listens there: what asks it is told at once.
  pool: "import pg from 'pg'\nconst pool = new pg.Pool({ host: '127.0.0.1', port: 9 })",
  client: `const client = {
  isReady: true,
  on() {},
  async ping() {
    return 'PONG'
  }
}`,
  queue: 'const queue = { async ping(_options: { signal: AbortSignal }) {} }',
  awsLambda: "import awsLambdaFastify from '@fastify/aws-lambda'",
  importOrders: `const imported = Promise.withResolvers<void>()
Reflect.set(globalThis, 'workOfBlock', imported.promise)
async function importOrders(url: string) {
  setTimeout(imported.resolve, 20)
  return url
}`
}

/** Files that lie beside a block, by the name that `<!-- run: files=… -->` has for them. */
export const FILES: Record<string, string> = {
  'server.js': `import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability)
app.get('/orders/:id', async () => ({ id: 7 }))
await app.listen({ port: 3000 })
`,
  'request-id.js': `import requestId from '@fastify-observability/request-id'
import Fastify from 'fastify'

const app = Fastify()
await app.register(requestId)
app.get('/', async ({ id }) => id)
await app.listen({ port: 3000 })
`,
  'unready.js': `import health from '@fastify-observability/health'
import Fastify from 'fastify'

const app = Fastify()
function fail() {
  throw new Error('refused')
}
await app.register(health, {
  checks: { database: fail, cache: () => undefined, queue: () => undefined },
  pressure: 'both'
})
await app.listen({ port: 3000 })
`
}
