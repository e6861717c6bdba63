import { Readable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'

/** What the routes do beside answering, where somebody observes it. */
export interface Surroundings {
  work<Result>(fn: () => Promise<Result>): Promise<Result>
  onThrow(): void
}

/** The routes of the service, and of the plain app that says how they answer. */
export function declareRoutes(app: FastifyInstance, { work, onThrow }: Surroundings): void {
  app.get('/orders/:id', async (request) => {
    request.log.info({ order: request.params }, 'looking it up')
    return work(async () => ({ id: 7, text: 'ü€😀' }))
  })
  app.get('/text', async () => 'text')
  app.get('/late', async (_request, reply) => {
    await wait(20)
    return reply.header('x-own', '1').send('late')
  })
  app.get('/slow', async () => {
    await wait(500)
    return 'slow'
  })
  app.get('/hang', () => new Promise(() => undefined))
  app.get('/stream', async (_request, reply) => reply.type('text/plain').send(Readable.from(['one ', 'two'])))
  app.get('/big', async () => 'x'.repeat(5_000_000))
  app.get('/empty', async (_request, reply) => reply.code(204).send())
  app.get('/redirect', async (_request, reply) => reply.redirect('/text', 303))
  app.get('/status/:code', async ({ params }) => {
    throw Object.assign(new Error('asked for'), { statusCode: Number(Reflect.get(Object(params), 'code')) })
  })
  app.get('/boom', async () => {
    onThrow()
    throw new TypeError('boom')
  })
  app.post('/echo', async ({ body }) => body)
}
