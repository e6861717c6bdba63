import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { startCollector } from '@fastify-observability/testing/collector'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { test } from 'tap'

const GRPC = '@grpc/grpc-js'

/** Of what exports spans, the packages that a service of its own process has loaded by then. */
async function start(
  env: NodeJS.ProcessEnv,
  ...args: string[]
): Promise<Record<'atStart' | 'afterwards' | 'atEnd', string[]>> {
  return JSON.parse(await outputOf('start.mjs', env, args))
}

async function outputOf(fixture: string, env: NodeJS.ProcessEnv, args: string[] = []): Promise<string> {
  // tap has every process that a test starts load a TypeScript of its own: what `env` starts it does not reach.
  const command = ['-u', 'NODE_OPTIONS', process.execPath, join(import.meta.dirname, 'fixtures', fixture), ...args]
  const { stdout } = await promisify(execFile)('env', command, {
    timeout: PATIENCE_MS,
    env: { ...process.env, ...env }
  })
  return stdout
}

test('loads nothing that exports when there is no endpoint', async (t) => {
  t.same(await start({}), { atStart: [], afterwards: [], atEnd: [] })
})

test('listens before it loads the exporter, which the spans of the first requests wait for', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const { atStart, atEnd } = await start({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.url })
  t.same(atStart, [])
  t.same(atEnd, [GRPC])
  t.match(
    collector.spans.map(({ name }) => name),
    ['GET /']
  )
})

test('has loaded the exporter before there is a span', async (t) => {
  const { atStart, afterwards } = await start({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' }, 'idle')
  t.same(atStart, [])
  t.same(afterwards, [GRPC])
})

test('loads no gRPC for OTLP over HTTP', async (t) => {
  const collector = await startCollector({ protocol: 'http/protobuf' })
  t.teardown(() => collector.close())
  const env = { OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf', OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }
  t.same(await start(env), { atStart: [], afterwards: [], atEnd: [] })
  t.match(
    collector.spans.map(({ name }) => name),
    ['GET /']
  )
})

test('names what to install when lifecycle spans are asked for and cannot be had', async (t) => {
  t.match(
    await outputOf('without-lifecycle.mjs', {}),
    /lifecycleSpans.*npm install --legacy-peer-deps @opentelemetry\/instrumentation-fastify/
  )
})
