import type { FastifyInstance, FastifyPluginAsync, FastifyRequest } from 'fastify'
import type { ObservabilityOptions } from 'fastify-observability'
import type { Tools } from './work.ts'

export interface Ends {
  /** Where the OTLP sink listens. */
  endpoint: string
  /** Where it listens for OTLP over HTTP. */
  httpEndpoint: string
  /** A DSN of the Sentry sink. */
  dsn: string
}

export interface Variant {
  /** For the table. */
  what: string
  build?(ends: Ends): Promise<FastifyInstance>
  /** What `peers/app.py` is run with instead. */
  python?: string
  /** What its handler does beside answering. */
  work?(request: FastifyRequest): void
  /** What growing work is made with. */
  tools?(app: FastifyInstance): Promise<Tools>
  /** A stream that is read while it runs, as a browser does. */
  stream?: string
}

const SERVICE = { name: 'users', version: '1.0.0', environment: 'production' }
// Watched, and never reached: a request that is shed costs next to nothing. under-pressure takes the delay of an event loop
// that had no turn for a second, because the machine was busy, for infinite.
const PRESSURE = { maxEventLoopDelayMs: Number.POSITIVE_INFINITY, maxRssBytes: 4 * 1024 ** 3 }

async function bare(): Promise<FastifyInstance> {
  const { default: Fastify } = await import('fastify')
  return Fastify()
}

/** A part alone, which brings the observation with it. */
async function alone<Options extends object>(
  load: Promise<{ default: FastifyPluginAsync<Options> }>,
  options: Options
): Promise<FastifyInstance> {
  const app = await bare()
  const { default: plugin } = await load
  await app.register(plugin as FastifyPluginAsync, options)
  return app
}

/** All parts, each switched on. Sentry needs a DSN. */
async function everything(
  { endpoint, dsn }: Pick<Ends, 'endpoint' | 'dsn'>,
  sampleRatio: number,
  withSentry: boolean,
  { keep = false, devtools = false }: Pick<ObservabilityOptions, 'keep' | 'devtools'> = {}
): Promise<FastifyInstance> {
  const app = await bare()
  const { default: observability } = await import('fastify-observability')
  await app.register(observability, {
    service: SERVICE,
    keep,
    devtools,
    tracing: { endpoint, sampleRatio },
    health: { checks: { self: () => undefined }, pressure: PRESSURE },
    sentry: withSentry && { dsn }
  })
  return app
}

/** Chosen by the variable, as a service would. */
async function overHttp({ httpEndpoint, dsn }: Ends): Promise<FastifyInstance> {
  process.env.OTEL_EXPORTER_OTLP_PROTOCOL = 'http/protobuf'
  return everything({ endpoint: httpEndpoint, dsn }, 1, false)
}

async function withPage(ends: Ends): Promise<FastifyInstance> {
  return everything(ends, 1, false, { devtools: true })
}

const KEEP = { keep: { errors: true, slowerThanMs: 1_000 } }
const LINES = 10

/** Lines that the level leaves out. */
function logLines({ log, id }: FastifyRequest): void {
  for (let step = 0; step < LINES; step++) log.debug({ user: id, step }, 'looking it up')
}

async function toolsOfOurs({ metrics }: FastifyInstance): Promise<Tools> {
  const { withSpan } = await import('fastify-observability')
  return { withSpan, counter: (name) => metrics.counter({ name, help: 'Items.', labelNames: ['item'] }) }
}

let users = 0

function addFields({ observation }: FastifyRequest): void {
  observation.add({ 'user.id': ++users, plan: 'pro', items: 3 })
}

export const variants = {
  bare: { what: 'Fastify alone', build: bare },
  ours: {
    what: 'everything on but Sentry, every trace exported',
    build: (ends) => everything(ends, 1, false),
    tools: toolsOfOurs
  },
  'ours-10': { what: 'the same, one trace in ten exported', build: (ends) => everything(ends, 0.1, false) },
  'ours-0': {
    what: 'the same, no trace exported',
    build: (ends) => everything(ends, 0, false),
    tools: toolsOfOurs
  },
  'ours-http': { what: 'ours, exporting over http/protobuf in the place of gRPC', build: overHttp },
  'ours-sentry': { what: 'everything on and a Sentry DSN', build: (ends) => everything(ends, 1, true) },
  lines: {
    what: 'ours, with ten debug lines a request at level info',
    build: (ends) => everything(ends, 1, false),
    work: logLines
  },
  keep: {
    what: 'the same with keep, and no request that fails',
    build: (ends) => everything(ends, 1, false, KEEP),
    work: logLines
  },
  'lines-10': {
    what: 'ours-10, with ten debug lines a request at level info',
    build: (ends) => everything(ends, 0.1, false),
    work: logLines
  },
  'keep-10': {
    what: 'the same with keep, and no request that fails',
    build: (ends) => everything(ends, 0.1, false, KEEP),
    work: logLines
  },
  fields: {
    what: 'ours, with three fields added to each request',
    build: (ends) => everything(ends, 1, false),
    work: addFields
  },
  page: { what: 'ours, with the developer page, which nobody looks at', build: withPage },
  'page-open': {
    what: 'the same, with the list of requests open',
    build: withPage,
    stream: '/_observability/api/events'
  },
  'page-lines': {
    what: 'the page that nobody looks at, with ten debug lines a request at level info',
    build: withPage,
    work: logLines
  },
  'hand-wired': {
    what: 'NodeSDK, @fastify/otel, fastify-metrics, under-pressure and Fastify’s log lines',
    build: async ({ endpoint }) => (await import('./hand-wired.ts')).build(endpoint),
    tools: async () => (await import('./hand-wired.ts')).tools
  },
  fastapi: { what: 'FastAPI alone, under uvicorn with uvloop and httptools', python: 'bare' },
  'fastapi-observed': {
    what: 'FastAPI with loguru, FastAPIInstrumentor over gRPC and prometheus-fastapi-instrumentator',
    python: 'observed'
  },
  observation: {
    what: 'the observation that all parts share',
    build: () => alone(import('@fastify-observability/observation'), {})
  },
  'request-id': { what: 'request-id alone', build: () => alone(import('@fastify-observability/request-id'), {}) },
  logging: {
    what: 'logging alone',
    build: () => alone(import('@fastify-observability/logging'), { service: SERVICE })
  },
  tracing: {
    what: 'tracing alone, every trace exported',
    build: ({ endpoint }) => alone(import('@fastify-observability/tracing'), { service: SERVICE, endpoint })
  },
  metrics: {
    what: 'metrics alone',
    build: () => alone(import('@fastify-observability/metrics'), { service: SERVICE })
  },
  health: {
    what: 'health alone, with limits',
    build: () => alone(import('@fastify-observability/health'), { service: SERVICE, pressure: PRESSURE })
  },
  // A profiler, which few install, would run in one process of ten.
  sentry: {
    what: 'sentry alone',
    build: ({ dsn }) => alone(import('@fastify-observability/sentry'), { service: SERVICE, dsn, profilesSampleRate: 0 })
  }
} satisfies Record<string, Variant>

/**
 * What a full run measures beside each other. Four servers at most: each more leaves the others less of the caches, which a
 * service that has its machine's to itself does not know.
 */
export const groups: readonly (readonly VariantName[])[] = [
  ['bare', 'ours', 'ours-10', 'hand-wired'],
  ['bare', 'ours', 'ours-sentry', 'sentry'],
  ['bare', 'observation', 'request-id', 'logging'],
  ['bare', 'tracing', 'metrics', 'health']
]

/** Two variants of which one is the other with something more, and what that may cost. */
export interface Pair {
  name: VariantName
  base: VariantName
  atMost: string
}

export const pairs: readonly Pair[] = [
  { name: 'keep', base: 'lines', atMost: '1.02 times' },
  { name: 'keep-10', base: 'lines-10', atMost: '1.02 times' },
  { name: 'fields', base: 'ours', atMost: '1 µs more' },
  { name: 'page', base: 'ours', atMost: '1.5 times' },
  { name: 'page-open', base: 'ours', atMost: '1.5 times' },
  { name: 'page-lines', base: 'lines', atMost: '1.5 times' }
]

/** Those, and the ones that they are compared with. */
export const PAIRED: VariantName[] = [...new Set(pairs.flatMap(({ base, name }) => [base, name]))]

export type VariantName = keyof typeof variants

export function isVariant(name: string | undefined): name is VariantName {
  return name !== undefined && Object.hasOwn(variants, name)
}
