import { type Redactor, type Registry, within } from '@fastify-observability/observation/internal'
import { ProxyTracerProvider, trace } from '@opentelemetry/api'
import type { Event, EventHint, NodeClient, NodeOptions } from '@sentry/node'
import { type Counters, countDrops, countResponses, createCounters } from './counters.ts'
import { watchCrashes } from './crash.ts'
import { ADMITTED, capturable, isReadable } from './failure.ts'
import { guardedHooks } from './hooks.ts'
import { NAME, type Settings } from './options.ts'
import { loadProfiling } from './profiling.ts'
import { createRateLimit, fingerprintOf, type RateLimit } from './rate-limit.ts'
import { scrubAttributes, scrubEvent } from './scrub.ts'
import { boundedTransport, deliverInBackground, noTransport } from './transport.ts'

export type SDK = typeof import('@sentry/node')

/** A client of the SDK, ours or the user's, with its counters and limits. */
export interface Connection {
  client: NodeClient
  rateLimit: RateLimit
  counters: Counters
  /** Of the app whose rules clean the client's events, `undefined` for a client of the user's. */
  rules: Registry | undefined
  /** Whether Sentry makes spans of its own. */
  isTracing: boolean
  /** Paths of routes that Sentry must not trace. */
  untraced: Set<string>
}

const CLOSE_MS = 1_800
/** With one the SDK makes its events whole. Nothing is sent there. */
const NO_DSN = 'https://none@localhost/0'
const ABORT_MS = 100

/** The automatic collection that the SDK would do: none of it. */
const NO_DATA = {
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
  // A category that the SDK adds is collected by default, and so has to be named here.
} satisfies Required<NonNullable<NodeOptions['dataCollection']>>

// Fastify's would report errors before the final status is known, OnUncaughtException and OnUnhandledRejection would
// change how a process ends, and Dedupe would let a lasting failure go silent.
const REPLACED = ['Fastify', 'OnUncaughtException', 'OnUnhandledRejection', 'Dedupe']
// They send what explains no failure: that the process has started, and which packages are installed.
const NEEDLESS = ['ProcessSession', 'Modules']
const LEFT_OUT = new Set([...REPLACED, ...NEEDLESS, 'Http', 'NodeFetch'])

/** Whether somebody else makes spans: then there is one tracing pipeline, and it is not Sentry's. */
export function hasTracerProvider(): boolean {
  const provider = trace.getTracerProvider()
  return !(provider instanceof ProxyTracerProvider) || provider.getDelegateTracer('') !== undefined
}

// The SDK has one client a process: the apps of a process share ours, and its last one closes it.
interface Shared extends Connection {
  close(): Promise<boolean>
}
let opening: Promise<Shared | undefined> | undefined
let holders = 0
const ours = new WeakSet<NodeClient>()
const adopted = new WeakMap<NodeClient, Connection>()

/** What a user has made with Sentry.init, if it is still open. */
export function findForeign(Sentry: SDK): NodeClient | undefined {
  const client = Sentry.getClient<NodeClient>()
  return client === undefined || ours.has(client) || client.getOptions().enabled === false ? undefined : client
}

/** Counts what happens to the events of a client that the user has made, and limits the rate of ours. */
export function adopt(client: NodeClient, settings: Settings): Connection {
  const known = adopted.get(client)
  if (known) return known
  const connection = {
    client,
    rateLimit: createRateLimit(settings),
    counters: createCounters(),
    rules: undefined,
    isTracing: false,
    untraced: new Set<string>()
  }
  adopted.set(client, connection)
  countResponses(client, connection.counters, true)
  countDrops(client, connection.counters)
  deliverInBackground(client, connection.counters)
  return connection
}

/** The settings of a client that makes events and sends none. */
export function rehearsalOf(settings: Settings): Settings {
  const { eventIdInBody: _, profilesSampleRate: __, ...others } = settings
  return {
    ...others,
    dsn: NO_DSN,
    tracesSampleRate: 0,
    // All tests of a file together may be more than a service in a minute.
    maxEventsPerMinute: Number.POSITIVE_INFINITY,
    maxEqualEventsPerMinute: Number.POSITIVE_INFINITY,
    sdk: { ...settings.sdk, transport: noTransport }
  }
}

/** Opens our client, or shares it. */
export async function open(
  Sentry: SDK,
  settings: Settings,
  rules: Registry,
  warn: (message: string) => void
): Promise<Connection | undefined> {
  opening ??= start(Sentry, settings, rules, warn).catch((error) => {
    opening = undefined
    throw error
  })
  const connection = await opening
  if (!connection) return undefined
  holders++
  if (connection.client.getOptions().dsn !== settings.dsn) warn("another app's DSN is in use in this process")
  return connection
}

/** Releases our client; the last app sends what is waiting. False if some of it could not be sent in time. */
export async function release(): Promise<boolean> {
  if (--holders > 0 || !opening) return true
  const connection = await opening
  opening = undefined
  return connection ? connection.close() : true
}

async function start(
  Sentry: SDK,
  settings: Settings,
  rules: Registry,
  warn: (message: string) => void
): Promise<Shared | undefined> {
  const { dsn, environment, release, spotlight } = settings
  const sdk = { ...settings.sdk, ...guardedHooks(settings.sdk, (error) => rules.report(NAME, error)) }
  const isTracing = settings.tracesSampleRate > 0 && !hasTracerProvider()
  const tracesSampleRate = isTracing ? settings.tracesSampleRate : undefined
  const profiling = await loadProfiling(settings, isTracing, warn)
  const closing = new AbortController()
  const counters = createCounters()
  const untraced = new Set<string>()
  const ignoreIncomingRequests = (url: string): boolean => untraced.has(url.split('?', 1)[0] ?? url) || isUnsampled()
  // What the SDK is about to decide. It would make a span all the same, wrap every listener of the request and its
  // response, and hold both for half a second.
  function isUnsampled(): boolean {
    const { sampled, sampleRand } = Sentry.getCurrentScope().getPropagationContext()
    if (sdk.tracesSampler || sampled !== undefined || sampleRand < settings.tracesSampleRate) return false
    client?.recordDroppedEvent('sample_rate', 'span')
    return true
  }
  const client = Sentry.init({
    // Those hooks rewrite modules while they load: of use to Sentry's spans only.
    enableRuntimeChannelInjection: isTracing,
    tracePropagationTargets: [],
    defaultIntegrations: [
      ...Sentry.getDefaultIntegrations({ tracesSampleRate }).filter(({ name }) => !LEFT_OUT.has(name)),
      ...(isTracing
        ? [Sentry.httpIntegration({ sessions: false, ignoreIncomingRequests }), Sentry.nativeNodeFetchIntegration()]
        : [Sentry.openTelemetryIntegration()]),
      ...profiling.integrations
    ],
    ...profiling.options,
    ...sdk,
    dsn,
    environment,
    release,
    spotlight,
    tracesSampleRate,
    dataCollection: { ...NO_DATA, ...sdk.dataCollection },
    transport: boundedTransport(sdk.transport ?? Sentry.makeNodeTransport, counters, closing.signal),
    ...(settings.scrub && scrubbing(sdk, () => rules.redactor))
  })
  // There is none in a worker thread without a parent.
  if (!client) return undefined
  ours.add(client)
  deliverInBackground(client, counters)

  const connection: Connection = {
    client,
    rateLimit: createRateLimit(settings),
    counters,
    rules,
    isTracing,
    untraced
  }
  // Without a DSN events go to Spotlight only, and nothing accepts them.
  if (dsn !== undefined) countResponses(client, counters, false)
  limitOthers(connection, countDrops(client, counters))
  const close = async (): Promise<boolean> => {
    const isSent = (await within(CLOSE_MS, client.close(CLOSE_MS))) ?? false
    closing.abort()
    // Deliveries that are aborted now are counted.
    await client.getTransport()?.flush(ABORT_MS)
    return isSent
  }
  const crashes = watchCrashes((thrown, level) => {
    if (!isReadable(thrown)) return counters.dropped.add('unreadable')
    const mechanism = { handled: false, type: 'uncaught' }
    const hint = { originalException: thrown, captureContext: { level }, mechanism }
    client.captureException(capturable(thrown), hint, Sentry.getCurrentScope())
  }, close)
  return {
    ...connection,
    close() {
      crashes.stop()
      return close()
    }
  }
}

type Hooks = Pick<NodeOptions, 'beforeSend' | 'beforeSendTransaction' | 'beforeSendSpan' | 'beforeSendLog'>

/** The user's hooks run first, so that nothing they add leaves unscrubbed. */
function scrubbing(
  { beforeSend, beforeSendTransaction, beforeSendSpan, beforeSendLog, traceLifecycle }: Settings['sdk'],
  redactor: () => Redactor
): Hooks {
  const scrub = <Sent extends Event>(event: Sent | null): Sent | null => event && scrubEvent(event, redactor())
  const hooks: Hooks = {
    beforeSend(event, hint) {
      const sent = beforeSend ? beforeSend(event, hint) : event
      return isThenable(sent) ? sent.then(scrub) : scrub(sent)
    },
    beforeSendLog(log) {
      const sent = beforeSendLog ? beforeSendLog(log) : log
      if (!sent) return sent
      const message = redactor().text(String(sent.message))
      return { ...sent, message, ...(sent.attributes && { attributes: scrubAttributes(sent.attributes, redactor()) }) }
    }
  }
  // The SDK has transactions or single spans, and warns of a hook for the other ones.
  if (traceLifecycle === 'static') {
    hooks.beforeSendTransaction = (event, hint) => {
      const sent = beforeSendTransaction ? beforeSendTransaction(event, hint) : event
      return isThenable(sent) ? sent.then(scrub) : scrub(sent)
    }
    return hooks
  }
  hooks.beforeSendSpan = (span) => {
    const sent = beforeSendSpan ? beforeSendSpan(span) : span
    const attributes = scrubAttributes(sent.attributes, redactor())
    return { ...sent, name: redactor().text(sent.name), attributes }
  }
  return hooks
}

function isThenable<Sent>(value: Sent | PromiseLike<Sent>): value is PromiseLike<Sent> {
  return typeof value === 'object' && value !== null && 'then' in value
}

/** Limits the events that are not ours: what the application captures itself, and crashes. */
function limitOthers({ client, rateLimit, counters }: Connection, drops: { skipNext(): void }): void {
  client.addEventProcessor((event, hint: EventHint) => {
    if (event.type !== undefined || hint.data === ADMITTED) return event
    const { originalException = event.message } = hint
    const fingerprint = typeof originalException === 'string' ? originalException : fingerprintOf(originalException)
    const reason = rateLimit(fingerprint, event.level === 'fatal')
    if (reason === undefined) return event
    counters.dropped.add(reason)
    // The SDK records the same drop next.
    drops.skipNext()
    return null
  })
}
