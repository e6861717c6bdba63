// tRPC answers what a procedure throws itself: `onError` reports it to the request first.
import { initTRPC } from '@trpc/server'
import { fastifyTRPCPlugin } from '@trpc/server/adapters/fastify'
import Fastify from 'fastify'
import observability, { currentObservation } from 'fastify-observability'

const t = initTRPC.create()
const router = t.router({
  order: t.procedure.input(String).query(({ input }) => ({ id: input })),
  boom: t.procedure.query(() => {
    throw new TypeError('boom')
  })
})

const app = Fastify({ routerOptions: { maxParamLength: 5000 } })
await app.register(observability)
await app.register(fastifyTRPCPlugin, {
  prefix: '/trpc',
  trpcOptions: {
    router,
    // What a procedure has thrown is the cause of tRPC's own error.
    onError: ({ error }) => currentObservation()?.fail(error.cause ?? error)
  }
})
await app.listen({ port: 0, host: '127.0.0.1' })
