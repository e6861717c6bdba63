import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type ReceivedSpan, startCollector } from '@fastify-observability/testing/collector'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import type { Test } from 'tap'

const PACKAGE = join(import.meta.dirname, '..')
export const REGISTER = '@fastify-observability/tracing/register'
export const PRELOADED = ['--import', REGISTER]
// tap has every process that a test starts load a TypeScript of its own: what `env` starts it does not reach.
const NODE = ['-u', 'NODE_OPTIONS', process.execPath, '--throw-deprecation']

interface Served {
  spans: ReceivedSpan[]
  /** What tracing has logged, with the level before it. */
  said: string[]
}

/** Runs a service of its own process, which answers one request and ends. */
export async function serve(
  t: Test,
  service: string,
  args: string[],
  env: NodeJS.ProcessEnv = {},
  paths: readonly string[] = []
): Promise<Served> {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const { stdout, stderr } = await promisify(execFile)(
    'env',
    [...NODE, ...args, join('test/fixtures', service), ...paths],
    {
      cwd: PACKAGE,
      timeout: PATIENCE_MS,
      env: { ...process.env, OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, ...env }
    }
  )
  t.equal(stderr, '')
  const log: { level: number; msg: string }[] = stdout.split('\n').flatMap((line) => (line ? [JSON.parse(line)] : []))
  const lines = log.filter(({ msg }) => msg.startsWith('tracing: '))
  return { spans: collector.spans, said: lines.map(({ level, msg }) => `${level} ${msg}`) }
}

/** Spans with their parent's name, without what differs from run to run. */
export function shapes(spans: ReceivedSpan[]) {
  const nameOf = new Map(spans.map(({ spanId, name }) => [spanId, name]))
  return spans
    .toSorted((one, other) => one.startMs - other.startMs)
    .map(({ name, kind, parentSpanId, status, statusMessage, attributes, events }) => {
      const { 'server.port': _, 'network.peer.port': __, ...stable } = attributes
      const exceptions = events.filter((event) => event.name === 'exception')
      const happened = exceptions.map(({ attributes }) => attributes)
      return { name, kind, parent: nameOf.get(parentSpanId), status, statusMessage, attributes: stable, happened }
    })
}

/** The shapes of the spans of an instrumentation. */
export function ofScope(spans: ReceivedSpan[], part: string) {
  const names = shapes(spans.filter(({ scope }) => scope.endsWith(part))).map(({ name }) => name)
  return shapes(spans).filter(({ name }) => names.includes(name))
}

export function resolve(name: string): string {
  return createRequire(import.meta.url).resolve(name)
}

export function versionOf(name: string): string {
  const manifest = /.*node_modules\/(@[^/]+\/)?[^/]+\//.exec(resolve(name))?.[0]
  return createRequire(import.meta.url)(`${manifest}package.json`).version
}
