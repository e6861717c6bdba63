import Fastify from 'fastify'
import profiling from '../src/index.ts'

/** Takes so many milliseconds of the processor, however busy it is. */
export function compute(ms: number): void {
  const before = process.cpuUsage()
  while (process.cpuUsage(before).user < ms * 1_000) Math.sqrt(ms)
}

if (import.meta.main) {
  const app = Fastify({ logger: { level: 'warn' } })
  await app.register(profiling, { samplingIntervalMs: 1 })
  app.get('/orders/:id', async () => compute(60))
  await app.inject('/orders/7')
  await app.close()
}
