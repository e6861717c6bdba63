import Fastify from 'fastify'
import observability from '../src/index.ts'

// A user's service that can be kept busy, for the tests to run as a process of its own.
const app = Fastify()
await app.register(observability, {
  health: { pressure: { mode: 'both', maxEventLoopDelayMs: 250, maxEventLoopUtilization: 0.75 } }
})
app.get('/orders', async () => 'ok')
app.get('/vital', { config: { observability: { shed: false } } }, async () => 'ok')
app.get('/block', async () => {
  work(2_000)
  return 'unblocked'
})
// Nine of ten milliseconds.
app.get('/busy', async () => {
  setInterval(() => work(18), 20)
  return 'busy'
})
await app.listen({ port: 0, host: '127.0.0.1' })

function work(ms: number): void {
  const until = performance.now() + ms
  while (performance.now() < until);
}
