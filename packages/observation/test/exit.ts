// Ends the process right after a response, before the event loop comes round.
import { writeSync } from 'node:fs'
import Fastify from 'fastify'
import observation from '../src/index.ts'

const app = Fastify()
await app.register(observation)
app.observation.observe({
  name: 'test',
  end: ({ route }, { statusCode }) => void writeSync(1, `${statusCode} ${route}`)
})
app.get('/', async (_request, reply) => {
  reply.raw.on('close', () => process.exit())
  return 'ok'
})
await fetch(await app.listen({ host: '127.0.0.1', port: 0 })).catch(() => undefined)
