// The process that loads a service: `node inspection.ts [FILE]`. It imports nothing of the suite before the service does, so that
// the service meets what it meets when it runs by itself.
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { FastifyInstance } from 'fastify'
import type { Account, Message, Obstacle } from './account.ts'

const NAMES = ['default', 'app', 'build', 'buildApp', 'createApp']
const REGISTERED = Symbol.for('fastify-observability.registered')
const VARIABLES = /^(?:OTEL_|SENTRY_)/
const MAX_CHARACTERS = 500

const [, , file] = process.argv

async function inspect(): Promise<void> {
  // Packages are looked for from the main module, and so is the name of the service.
  process.argv[1] = file ?? join(process.cwd(), 'index.js')
  const app = file === undefined ? await withoutFile() : await appOf(file)
  if (!app) return
  await send({ stage: 'imported' })
  await app.ready()
  await send({ stage: 'started' })
  if (!app.hasDecorator('observability')) return stop('not-registered', 'app.observability is missing')
  await send({ account: await accountOf(app) })
  if (file === undefined) await abandon(app)
  await app.close()
  process.off('disconnect', end)
}

/** Ends without delivering what nobody has asked for. */
async function abandon(app: FastifyInstance): Promise<never> {
  const { registryOf } = await import('@fastify-observability/observation/internal')
  registryOf(app).flushSync()
  return end()
}

function end(): never {
  process.exit()
}

/** A service that has the environment, and nothing else. */
async function withoutFile(): Promise<FastifyInstance> {
  const [{ default: Fastify }, { default: observability }] = await Promise.all([
    import('fastify'),
    import('../index.ts')
  ])
  const app = Fastify()
  await app.register(observability, { devtools: false })
  return app
}

async function appOf(path: string): Promise<FastifyInstance | undefined> {
  const exported: unknown = await import(pathToFileURL(path).href)
  for (const candidate of candidatesOf(exported)) {
    const app: unknown = typeof candidate === 'function' ? await candidate({}) : await candidate
    if (isApp(app)) return app
  }
  const names = Object.keys(Object(exported)).join(', ') || 'nothing'
  return stop('no-app', `no Fastify app among what it exports: ${names}`)
}

/** What may be the app, or a function that builds it. CommonJS has one more `default` around it. */
function candidatesOf(exported: unknown): unknown[] {
  const members = NAMES.map((name) => propertyOf(exported, name))
  const [main] = members
  const inner = isApp(main) || typeof main === 'function' ? [] : NAMES.map((name) => propertyOf(main, name))
  return [...members, ...inner].filter((candidate) => candidate !== undefined)
}

function isApp(value: unknown): value is FastifyInstance {
  return ['ready', 'close', 'hasDecorator'].every((name) => typeof propertyOf(value, name) === 'function')
}

async function accountOf(app: FastifyInstance): Promise<Account> {
  const { registryOf } = await import('@fastify-observability/observation/internal')
  const { kept, instrumentation } = registryOf(app).descriptions
  const options = propertyOf(app, REGISTERED)
  return {
    report: app.observability.report(),
    kept,
    instrumentation,
    isTrustingProxy: isTrustingProxy(app),
    endpoint: textOf(propertyOf(propertyOf(options, 'tracing'), 'endpoint')),
    dsn: textOf(propertyOf(propertyOf(options, 'sentry'), 'dsn')),
    variables: Object.fromEntries(
      Object.entries(process.env).flatMap(([name, value]) =>
        VARIABLES.test(name) && value !== undefined ? [[name, value]] : []
      )
    )
  }
}

/** Fastify keeps its options under a symbol, and leaves this one out of `initialConfig`. */
function isTrustingProxy(app: FastifyInstance): boolean | undefined {
  for (
    let holder: unknown = app;
    typeof holder === 'object' && holder !== null;
    holder = Object.getPrototypeOf(holder)
  ) {
    const symbol = Object.getOwnPropertySymbols(holder).find(({ description }) => description === 'fastify.options')
    if (symbol) return Boolean(propertyOf(propertyOf(holder, symbol), 'trustProxy'))
  }
  return undefined
}

function propertyOf(value: unknown, name: string | symbol): unknown {
  const isHolder = (typeof value === 'object' && value !== null) || typeof value === 'function'
  return isHolder ? Reflect.get(value, name) : undefined
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

async function stop(obstacle: Obstacle, text: string): Promise<undefined> {
  await send({ obstacle, text })
}

/** Resolves when it is on its way: what is not is lost when the process ends. */
async function send(message: Message): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  if (process.send) process.send(message, () => resolve())
  else resolve()
  await promise
}

/** The first of what an error says, and where it comes from. */
function textOfError(error: unknown): string {
  if (!(error instanceof Error)) return `threw ${String(error).slice(0, MAX_CHARACTERS)}`
  const [at = ''] = /^ {4}at .*(?:file:|\/).*$/m.exec(error.stack ?? '') ?? []
  return `${error.name}: ${error.message.slice(0, MAX_CHARACTERS)}${at.trim() && ` ${at.trim()}`}`
}

// A plugin that waits for nothing leaves the event loop empty, which would end the process.
const alive = setInterval(() => undefined, 2 ** 31 - 1)
// Whoever has started this process is gone, or knows enough. A service that has closed ends by itself.
process.once('disconnect', end)
try {
  await inspect()
} catch (error) {
  await stop('import-failed', textOfError(error))
}
clearInterval(alive)
process.disconnect?.()
