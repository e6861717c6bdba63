import observation, {
  createRedactor,
  parseEnv,
  parseOptions,
  resolveService,
  type ServiceOptions,
  serviceSchema
} from '@fastify-observability/observation'
import type { ErrorEvent, NodeClient } from '@sentry/node'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import * as v from 'valibot'

export interface SentryOptions {
  service?: ServiceOptions
  /** Where events go. Without one the plugin does nothing. @default SENTRY_DSN */
  dsn?: string
  /** @default SENTRY_ENVIRONMENT, then the service's environment */
  environment?: string
  /** @default SENTRY_RELEASE, then `name@version` of the service */
  release?: string
}

const NAME = '@fastify-observability/sentry'
const CLOSE_MS = 2_000
const DSN_RULE = 'a DSN like https://key@host/1'
const dsnSchema = v.optional(v.pipe(v.string(DSN_RULE), v.check(isDsn, DSN_RULE)))
const text = v.optional(v.string())
const schema = v.strictObject({ service: serviceSchema, dsn: dsnSchema, environment: text, release: text })
const envSchema = v.object({ SENTRY_DSN: dsnSchema, SENTRY_ENVIRONMENT: text, SENTRY_RELEASE: text })

/** @see https://develop.sentry.dev/sdk/overview/#parsing-the-dsn */
function isDsn(value: string): boolean {
  const url = URL.parse(value)
  return url !== null && /^https?:$/.test(url.protocol) && url.username !== '' && /\/\d+$/.test(url.pathname)
}

const redactor = createRedactor()

/** Takes secrets out of an event's texts, and the data of its breadcrumbs with them. */
function scrub(event: ErrorEvent): ErrorEvent {
  const { message, exception, breadcrumbs } = event
  if (message) event.message = redactor.text(message)
  for (const thrown of exception?.values ?? []) if (thrown.value) thrown.value = redactor.text(thrown.value)
  for (const crumb of breadcrumbs ?? []) {
    if (crumb.message) crumb.message = redactor.text(crumb.message)
    delete crumb.data
  }
  return event
}

// The SDK has one client a process: the apps of a process share ours, and its last one closes it.
let client: NodeClient | undefined
let holders = 0

async function load(): Promise<typeof import('@sentry/node') | undefined> {
  try {
    return await import('@sentry/node')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND') return undefined
    throw error
  }
}

async function sentry(app: FastifyInstance, options: SentryOptions): Promise<void> {
  const parsed = parseOptions<SentryOptions>(NAME, schema, options)
  const env = parseEnv(NAME, envSchema)
  const dsn = parsed.dsn ?? env.SENTRY_DSN
  if (dsn === undefined) return

  const Sentry = await load()
  if (!Sentry) {
    app.log.warn(
      `${NAME}: a DSN is set but @sentry/node is not installed, no events are sent: npm install @sentry/node`
    )
    return
  }

  const isHandled = process.listenerCount('unhandledRejection') > 0
  const start = (): NodeClient | undefined => {
    const service = resolveService(parsed.service)
    const named = service.version && `${service.name}@${service.version}`
    return Sentry.init({
      dsn,
      environment: parsed.environment ?? env.SENTRY_ENVIRONMENT ?? service.environment,
      release: parsed.release ?? env.SENTRY_RELEASE ?? named,
      // Its own Fastify integration reports errors before the final status is known.
      integrations: (defaults) => [
        ...defaults.filter(({ name }) => name !== 'Fastify' && name !== 'OnUnhandledRejection'),
        // Node ends the process then, unless somebody listens; its default would have it live on.
        Sentry.onUnhandledRejectionIntegration({ mode: isHandled ? 'none' : 'strict' })
      ],
      tracePropagationTargets: [],
      beforeSend: scrub,
      dataCollection: {
        userInfo: false,
        cookies: false,
        httpHeaders: false,
        httpBodies: [],
        urlQueryParams: false,
        graphQL: { document: false, variables: false },
        genAI: { inputs: false, outputs: false },
        mcp: { inputs: false, outputs: false },
        databaseQueryData: false,
        queues: false,
        stackFrameVariables: false,
        frameContextLines: 0
      }
    })
  }

  const existing = Sentry.getClient()
  const isForeign = existing !== undefined && existing !== client
  if (isForeign) app.log.info(`${NAME}: using the client that Sentry.init has made already`)
  else if (++holders === 1) client = start()
  else if (client?.getOptions().dsn !== dsn) app.log.warn(`${NAME}: another app's DSN is in use in this process`)

  await app.register(observation)
  app.observation.observe({
    name: NAME,
    end(observation, { statusCode, error, aborted }) {
      if (error === undefined || statusCode < 500 || aborted) return
      const { method, route, requestId, correlationId, spanContext } = observation
      Sentry.withScope((scope) => {
        scope.setTransactionName(`${method} ${route}`)
        scope.setTags({ request_id: requestId, correlation_id: correlationId, 'http.status_code': statusCode })
        if (spanContext) scope.setContext('trace', { trace_id: spanContext.traceId, span_id: spanContext.spanId })
        Sentry.captureException(error, { mechanism: { handled: false, type: 'fastify' } })
      })
    }
  })
  app.observation.onFlush((timeoutMs) => Sentry.flush(timeoutMs))
  app.addHook('onClose', async () => {
    if (isForeign || --holders > 0) return
    const sent = await Sentry.close(CLOSE_MS)
    if (!sent) app.log.warn(`${NAME}: the last events could not be sent`)
  })
}

export default fp(sentry, { name: NAME, fastify: '^5.12.0' })
