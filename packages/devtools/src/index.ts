import { basename, dirname, join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import fastifyStatic from '@fastify/static'
import observation from '@fastify-observability/observation'
import { registryOf, requireOf, TOKEN, withDocs } from '@fastify-observability/observation/internal'
import type { FastifyInstance, RouteOptions } from 'fastify'
import fp from 'fastify-plugin'
import { createApi, serveApi } from './api.ts'
import { createEvents } from './events.ts'
import { lock } from './locks.ts'
import { serveMcp } from './mcp.ts'
import { type DevtoolsOptions, NAME, resolveOptions } from './options.ts'
import { createRecorder } from './recorder.ts'
import { watchRuntime } from './runtime.ts'
import { rowOf } from './view.ts'

export type { DevtoolsOptions } from './options.ts'
export { spanProcessor } from './recorder.ts'

const PREFIX = '/_observability'
/** After somebody has asked for data of the page. */
const WATCHED_FOR_MS = 60_000
const OWN = { log: false, trace: false, shed: false, metrics: false, operational: true } as const
const PAGE_FILES = ['app.js', 'live.js', 'requests.js', 'story.js', 'views.js', 'chart.js', 'format.js', 'page.css']
// Of the installed packages, by the names that the page has for them: files beside the module that the package exports.
const LIBRARIES = {
  'preact.js': ['htm', '../preact/standalone.module.js'],
  'uplot.js': ['uplot', 'uPlot.esm.js'],
  'uplot.css': ['uplot', 'uPlot.min.css']
} as const

async function devtools(app: FastifyInstance, options: DevtoolsOptions): Promise<void> {
  const { links = {}, management, given = {} } = resolveOptions(options)
  const server = management ?? app
  if (process.env.NODE_ENV === 'production' && !server.hasDecorator(TOKEN)) {
    app.log.warn(
      withDocs('nothing-is-exported'),
      `${NAME}: off in production, but for a management listener with a token`
    )
    return
  }
  await app.register(observation)
  const registry = registryOf(app)
  if (!registry.admit(NAME)) return
  const runtime = watchRuntime()
  const events = createEvents()
  let askedAtMs = Number.NEGATIVE_INFINITY
  const recorder = createRecorder(
    () => registry.redactor,
    (nowMs) => events.hasPages || nowMs - askedAtMs < WATCHED_FOR_MS
  )
  registry.lineListener = recorder.lines
  registry.onKept = recorder.kept
  for (const observer of recorder.ends) registry.observe(observer)
  // After tracing has registered its observers, wherever that is.
  app.addHook('onReady', async () => {
    for (const observer of recorder.starts) registry.observe(observer)
  })
  recorder.onChange = (story) => {
    if (!story) return events.count(recorder.unrecorded)
    events.send(story.id, () => (recorder.stories.has(story.id) ? rowOf(story, registry.redactor) : undefined))
  }

  const api = createApi(app, { registry, recorder, runtime, links, given })
  await server.register(async (scope) => {
    scope.addHook('onRoute', markOwn)
    lock(scope)
    scope.addHook('onRequest', async () => {
      askedAtMs = performance.now()
    })
    const root = fileURLToPath(new URL('../page', import.meta.url))
    await scope.register(fastifyStatic, { root, serve: false, cacheControl: false })
    const require = requireOf(import.meta.url)
    scope.get(PREFIX, async (_request, reply) => reply.sendFile('index.html'))
    scope.get(`${PREFIX}/`, async (_request, reply) => reply.redirect(PREFIX))
    for (const name of PAGE_FILES) {
      scope.get(`${PREFIX}/page/${name}`, async (_request, reply) => reply.sendFile(name))
    }
    for (const [name, [module, file]] of Object.entries(LIBRARIES)) {
      const path = join(dirname(require.resolve(module)), file)
      scope.get(`${PREFIX}/page/${name}`, async (_request, reply) => reply.sendFile(basename(path), dirname(path)))
    }
    scope.get(`${PREFIX}/api/events`, async (_request, reply) => events.open(reply))
    serveApi(scope, `${PREFIX}/api`, api)
    serveMcp(scope, `${PREFIX}/mcp`, api)
  })
  server.addHook('onListen', async () => app.log.info(`developer page: ${server.listeningOrigin}${PREFIX}`))
  // Open pages would keep the app from closing.
  for (const one of new Set([app, server])) one.addHook('preClose', async () => events.close())
  app.addHook('onClose', async () => {
    runtime.stop()
    recorder.clear()
  })
}

function markOwn(route: RouteOptions): void {
  route.config = { ...route.config, observability: OWN }
  route.schema = { ...route.schema, hide: true }
}

/** Serves the developer page. */
export default fp(devtools, { name: NAME, fastify: '^5.10.0' })
