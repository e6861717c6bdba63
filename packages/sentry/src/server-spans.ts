import { channel } from 'node:diagnostics_channel'
import type { RequestObservation } from '@fastify-observability/observation/internal'
import type { httpIntegration, Span, startInactiveSpan } from '@sentry/node'
import { continueTrace } from './failure.ts'
import type { Live } from './live.ts'
import { memoryOf } from './request-scopes.ts'

type Attributes = NonNullable<Parameters<typeof startInactiveSpan>[0]['attributes']>
type Integration = ReturnType<typeof httpIntegration>

const UNTRACED_METHODS = new Set(['HEAD', 'OPTIONS'])
/** Files that belong to a page. */
const ASSET = /\.(?:avif|css|gif|ico|jpe?g|js|png|svg|webp|woff2?)$/i
// The SDK's names for what makes a span a server's. https://develop.sentry.dev/sdk/telemetry/traces/span-operations/
const KIND = {
  'sentry.op': 'http.server',
  'sentry.kind': 'server',
  'sentry.origin': 'auto.http.fastify_observability',
  'sentry.segment.name.source': 'route'
} as const

/** Begins a span for each request that is sampled, and calls `next` in it. Of the others the SDK learns nothing. */
export function serverSpans(live: Live): (observation: RequestObservation, next: () => void) => void {
  const { Sentry, client, scopes, traceRate } = live

  function begin(observation: RequestObservation, next: () => void, share = 1): void {
    const span = traceRate ? traceRate.during(share, () => spanOf(observation)) : spanOf(observation)
    memoryOf(observation).span = span
    observation.spanContext = span.spanContext()
    continueTrace(scopes.of(observation).scope, observation.spanContext)
    Sentry.withActiveSpan(span, next)
  }

  function spanOf(observation: RequestObservation): Span {
    return Sentry.startInactiveSpan({
      name: nameOf(observation),
      attributes: attributesOf(live, observation),
      startTime: (performance.timeOrigin + observation.startedAt) / 1_000,
      // One around the start of the server is not its caller.
      ...(memoryOf(observation).outer !== undefined && { parentSpan: null })
    })
  }

  return (observation, next) => {
    const { headers, config, method, startedAt } = observation
    if (config.trace === false || UNTRACED_METHODS.has(method)) return next()
    const sentryTrace = headers['sentry-trace']
    const sampleRand = Math.random()
    const share = traceRate?.of(startedAt)
    if (sentryTrace === undefined && share !== undefined && sampleRand >= share) {
      client.recordDroppedEvent('sample_rate', 'span')
      return next()
    }
    if (ASSET.test(observation.path)) return next()
    const { scope } = scopes.of(observation)
    const { traceId } = scope.getPropagationContext()
    scope.setPropagationContext({ traceId, sampleRand })
    if (sentryTrace === undefined) return scopes.run(observation, () => begin(observation, next, share))
    const callers = { sentryTrace: String(sentryTrace), baggage: headers.baggage }
    scopes.run(observation, () => Sentry.continueTrace(callers, () => begin(observation, next, share)))
  }
}

/** Ends the span of a request. */
export function endSpan({ Sentry }: Live, span: Span, statusCode: number): void {
  span.setAttribute('http.response.status_code', statusCode)
  span.setStatus(Sentry.getSpanStatusFromHttpCode(statusCode))
  span.end()
}

/**
 * The integration of outgoing calls without its other half, which clones two scopes for every request that comes in and
 * wraps what it listens to. There is no option for that.
 */
export function outgoingOnly(integration: Integration): Integration {
  return {
    ...integration,
    setupOnce() {
      const incoming = channel('http.server.request.start')
      incoming.subscribe = () => undefined
      integration.setupOnce?.()
      Reflect.deleteProperty(incoming, 'subscribe')
    }
  }
}

function nameOf({ method, route }: RequestObservation): string {
  return route === 'unmatched' ? method : `${method} ${route}`
}

function attributesOf(
  { Sentry, client }: Live,
  { method, route, path, raw, headers, clientAddress }: RequestObservation
): Attributes {
  const collected = client.getDataCollectionOptions()
  return {
    ...KIND,
    'http.request.method': method,
    'http.route': route === 'unmatched' ? undefined : route,
    'url.path': path,
    'url.scheme': 'encrypted' in raw.socket ? 'https' : 'http',
    'server.address': headers.host?.replace(/:\d+$/, ''),
    'user_agent.original': headers['user-agent'],
    'network.protocol.version': raw.httpVersion,
    ...(collected.userInfo && { 'client.address': clientAddress }),
    ...Sentry.httpHeadersToSpanAttributes(headers, collected)
  }
}
