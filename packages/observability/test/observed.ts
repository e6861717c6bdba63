import { startCollector } from '@fastify-observability/testing/collector'
import { startIngest } from '@fastify-observability/testing/ingest'
import Fastify from 'fastify'
import type { Test } from 'tap'
import observability, { type ObservabilityOptions } from '../src/index.ts'

export type Observed = Awaited<ReturnType<typeof observed>>

/** An app whose signals are at hand. */
export async function observed(t: Test, options: ObservabilityOptions = {}) {
  const [collector, ingest] = await Promise.all([startCollector(), startIngest()])
  t.teardown(() => Promise.all([collector.close(), ingest.close()]))
  const texts: string[] = []
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(observability, {
    logging: { stream: { write: (line) => void texts.push(line) } },
    tracing: { endpoint: collector.url },
    sentry: { dsn: ingest.dsn },
    ...options
  })
  const lines = () => texts.map((line) => JSON.parse(line))
  const metrics = async () => (await app.inject('/metrics')).body
  const jobLines = () => lines().filter(({ msg }) => msg.startsWith('job '))
  return { app, collector, ingest, lines, jobLines, metrics }
}
