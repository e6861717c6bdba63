import { type Redactor, type Registry, within } from '@fastify-observability/observation/internal'
import { ProxyTracerProvider, trace } from '@opentelemetry/api'
import type { Event, EventHint, NodeClient, NodeOptions } from '@sentry/node'
import { type Counters, countDrops, countResponses } from './counters.ts'
import { ADMITTED } from './failure.ts'
import { guardedHooks } from './hooks.ts'
import { NAME, type Settings } from './options.ts'
import { loadProfiling, profileSpans } from './profiling.ts'
import { fingerprintOf, type RateLimit } from './rate-limit.ts'
import { scrubAttributes, scrubEvent } from './scrub.ts'
import type { SDK } from './sdk.ts'
import { outgoingOnly } from './server-spans.ts'
import { TraceRate } from './trace-rate.ts'
import { boundedTransport, deliverInBackground, noTransport } from './transport.ts'

/** Our client. */
export interface OwnClient {
  readonly client: NodeClient
  /** Whether Sentry makes spans of its own. */
  readonly isTracing: boolean
  /** By which it samples, unless a sampler of the user's does. */
  readonly traceRate: TraceRate | undefined
  /** Sends what is waiting. False if some of it could not be sent in time. */
  close(): Promise<boolean>
}

type Integration = ReturnType<SDK['getDefaultIntegrations']>[number]

const CLOSE_MS = 1_800
/** With one the SDK makes its events whole. Nothing is sent there. */
const NO_DSN = 'https://none@localhost/0'
const ABORT_MS = 100
/** Spans of the server are made from the observation. */
const OUTGOING = { sessions: false, disableIncomingRequestSpans: true }

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

const ours = new WeakSet<NodeClient>()

/** What a user has made with Sentry.init, if it is still open. */
export function findForeign(Sentry: SDK): NodeClient | undefined {
  const client = Sentry.getClient<NodeClient>()
  return client === undefined || ours.has(client) || client.getOptions().enabled === false ? undefined : client
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

/** Makes our client the one of the process, `undefined` in a worker thread without a parent. */
export async function startClient(
  Sentry: SDK,
  settings: Settings,
  rules: Registry,
  { counters, rateLimit }: { counters: Counters; rateLimit: RateLimit },
  warn: (message: string) => void
): Promise<OwnClient | undefined> {
  const { dsn, environment, release, spotlight } = settings
  const sdk = { ...settings.sdk, ...guardedHooks(settings.sdk, (error) => rules.report(NAME, error)) }
  const isTracing = settings.tracesSampleRate > 0 && !hasTracerProvider()
  const tracesSampleRate = isTracing ? settings.tracesSampleRate : undefined
  const traceRate =
    isTracing && !sdk.tracesSampler ? new TraceRate(settings.tracesSampleRate, settings.maxTracesPerSecond) : undefined
  const profiling = await loadProfiling(settings, isTracing, warn)
  const lifecycle = sdk.profileLifecycle ?? profiling.options.profileLifecycle
  const closing = new AbortController()
  const client = Sentry.init({
    // Those hooks rewrite modules while they load: of use to Sentry's spans only.
    enableRuntimeChannelInjection: isTracing,
    tracePropagationTargets: [],
    defaultIntegrations: [
      ...Sentry.getDefaultIntegrations({ tracesSampleRate })
        .filter(({ name }) => !LEFT_OUT.has(name))
        .map(eventsOnly),
      ...(isTracing
        ? [outgoingOnly(Sentry.httpIntegration(OUTGOING)), Sentry.nativeNodeFetchIntegration()]
        : [Sentry.openTelemetryIntegration()]),
      ...profiling.integrations
    ],
    ...profiling.options,
    ...sdk,
    ...(lifecycle === 'trace' && { profileLifecycle: 'manual' }),
    dsn,
    environment,
    release,
    spotlight,
    tracesSampleRate,
    ...(traceRate && { tracesSampler: ({ inheritOrSampleWith }) => inheritOrSampleWith(traceRate.now) }),
    dataCollection: { ...NO_DATA, ...sdk.dataCollection },
    transport: boundedTransport(sdk.transport ?? Sentry.makeNodeTransport, counters, closing.signal),
    ...(settings.scrub && scrubbing(sdk, () => rules.redactor))
  })
  if (!client) return undefined
  ours.add(client)
  const endProfiles = profileSpans(Sentry, client, lifecycle === 'trace')
  deliverInBackground(client, counters)
  // Without a DSN events go to Spotlight only, and nothing accepts them.
  if (dsn !== undefined) countResponses(client, counters, false)
  limitOthers(client, rateLimit, counters, countDrops(client, counters))
  return {
    client,
    isTracing,
    traceRate,
    async close() {
      endProfiles()
      const isSent = (await within(CLOSE_MS, client.close(CLOSE_MS))) ?? false
      closing.abort()
      // Deliveries that are aborted now are counted.
      await client.getTransport()?.flush(ABORT_MS)
      return isSent
    }
  }
}

/** Reading the memory of the process and the machine takes longer than all else of a span. */
function eventsOnly(integration: Integration): Integration {
  return integration.name === 'Context' ? { ...integration, processSegmentSpan: undefined } : integration
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
function limitOthers(client: NodeClient, rateLimit: RateLimit, counters: Counters, drops: { skipNext(): void }): void {
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
