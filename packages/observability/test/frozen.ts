import { Readable } from 'node:stream'
import Fastify from 'fastify'
import observability, { logger } from '../src/index.ts'

// A function of a serverless platform, which freezes its process for ever when the answer is there.
const { SERVERLESS = 'true', TARGET } = process.env
const app = Fastify()
await app.register(observability, { serverless: SERVERLESS === 'true' })
app.get('/orders/:id', async () => {
  logger().info('in the handler')
  return 'the order'
})
app.get('/boom', async () => Promise.reject(new TypeError('boom')))
app.get('/stream', async (_request, reply) => reply.send(Readable.from(['the ', 'order'])))
app.get('/raw', (_request, reply) => void reply.hijack().raw.end('the order'))
app.get('/crash', async () => {
  logger().info('in the handler')
  process.kill(process.pid, 'SIGKILL')
})

if (TARGET === undefined) {
  await app.listen({ port: 0, host: '127.0.0.1' })
} else {
  // As @fastify/aws-lambda does: the answer is what inject() resolves with.
  const { statusCode, body } = await app.inject(TARGET)
  process.stderr.write(JSON.stringify({ statusCode, body }))
  process.kill(process.pid, 'SIGKILL')
}
