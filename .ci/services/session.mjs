// Sessions in a cookie.
import cookie from '@fastify/cookie'
import session from '@fastify/session'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability)
await app.register(cookie)
await app.register(session, { secret: 'a secret of thirty-two characters', cookie: { secure: false } })
app.get('/visits', async ({ session }) => {
  session.visits = (session.visits ?? 0) + 1
  return { visits: session.visits }
})
app.get('/boom', async () => {
  throw new TypeError('boom')
})
await app.listen({ port: 0, host: '127.0.0.1' })
