import observation from '@fastify-observability/observation'
import { registryOf, setImmediate, sumOf, withDocs } from '@fastify-observability/observation/internal'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { findForeign, hasTracerProvider, rehearsalOf } from './client.ts'
import { type Connection, connectionOf, watchEvents } from './connection.ts'
import { deliveryOf, publishCounters } from './counters.ts'
import { captureFailures } from './events.ts'
import { NAME, resolveOptions, type SentryOptions, type Settings } from './options.ts'
import { isFound, isInUse, loadSDK } from './sdk.ts'

export type { SentryOptions } from './options.ts'

async function sentry(app: FastifyInstance, options: SentryOptions): Promise<void> {
  const settings = resolveOptions(options, (message) => app.log.warn(withDocs('wrong-options'), `sentry: ${message}`))
  const { dsn, spotlight } = settings
  if (dsn === undefined && spotlight === false) {
    if (app.hasDecorator('observation')) await offerRehearsal(app, settings)
    return
  }
  const warn = (message: string): void => app.log.warn(withDocs('error-events'), `${NAME}: ${message}`)
  if (!isFound() && !(await loadSDK())) {
    warn('a DSN is set but @sentry/node is not installed, no events are sent: npm install @sentry/node')
    return
  }

  await app.register(observation)
  const registry = registryOf(app)
  if (!registry.admit(NAME)) return
  const connection = await connectionOf(settings, registry, warn)
  const { counters } = connection
  connection.onLive(({ isForeign }) => {
    if (isForeign) app.log.info(`${NAME}: using the client that Sentry.init has made already`)
  })
  publishCounters(registry, counters)
  captureFailures(app, settings, connection)
  app.addHook('onReady', async () => {
    if (isInUse()) await connection.connect()
    if (connection.live?.isTracing && hasTracerProvider())
      warn('both Sentry and OpenTelemetry make spans: register tracing before sentry')
  })
  app.addHook('onListen', (done) => {
    // What waits for the app to listen goes on first: loading takes the process a third of a second.
    setImmediate(connection.connectLater)
    done()
  })
  const destination = URL.parse(dsn ?? '')?.host ?? 'Spotlight'
  await registry.feeds.events.offer((receive) => watchEvents(connection, receive))
  registry.descriptions.add('events', () => ({ to: [destination] }))
  registry.descriptions.addDeliveries(() => [deliveryOf(counters, destination)])
  registry.onFlush({
    signal: 'events',
    flush: (timeoutMs) => connection.flush(timeoutMs),
    dropped: () => sumOf(counters.dropped.collect().map(([, count]) => count))
  })
  app.addHook('onClose', async () => {
    await registry.jobs.close()
    if (!(await connection.release())) warn('the last events could not be sent')
  })
}

/**
 * Without a DSN nothing is loaded and nothing sent; a test that watches the app's events gets those that would be. It changes
 * neither answers nor metrics nor reports.
 */
async function offerRehearsal(app: FastifyInstance, settings: Settings): Promise<void> {
  const { feeds, admit } = registryOf(app)
  let connecting: Promise<Connection | undefined> | undefined

  async function connect(): Promise<Connection | undefined> {
    const Sentry = await loadSDK()
    if (!Sentry || findForeign(Sentry) || !admit(NAME)) return undefined
    const rehearsed = rehearsalOf(settings)
    const connection = await connectionOf(rehearsed, registryOf(app), () => undefined)
    feeds.events.onEnd(() => connection.release())
    // The client of another app sends what it is given.
    if (connection.dsn !== rehearsed.dsn || !(await connection.connect())) return undefined
    captureFailures(app, rehearsed, connection)
    return connection
  }

  await feeds.events.offer(async (receive) => {
    connecting ??= connect()
    const connection = await connecting
    return connection ? watchEvents(connection, receive) : () => undefined
  })
}

/** Reports what really failed, where there is a DSN. */
export default fp(sentry, { name: NAME, fastify: '^5.10.0' })
