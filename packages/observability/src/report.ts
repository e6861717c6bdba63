import {
  docsOf,
  lossesOf,
  type Registry,
  resolveService,
  type Service,
  type ServiceOptions,
  type Signal,
  type SignalReport
} from '@fastify-observability/observation/internal'
import type { FastifyInstance } from 'fastify'

/** What is on, where it goes and what looks wrong. */
export interface Report extends Readonly<Record<Signal, SignalReport>> {
  /** Who the signals are about. */
  readonly service: Service
  /** What was lost so far, by series and reason. */
  readonly dropped: Readonly<Record<string, number>>
}

/** The options of the parts that have a signal. */
interface Parts {
  readonly logging?: object | boolean | undefined
  readonly tracing?: object | boolean | undefined
  readonly metrics?: object | boolean | undefined
  readonly sentry?: object | boolean | undefined
}

/** What a part that has said nothing is waiting for. */
const MISSING = {
  logging: 'logging is not registered',
  tracing: 'OTEL_SDK_DISABLED switches spans off',
  metrics: 'metrics are not registered',
  sentry: 'SENTRY_DSN, or the option sentry.dsn, sends error events; they need @sentry/node'
}

export function reportOf(registry: Registry, service: ServiceOptions, parts: Parts): Report {
  function describe(signal: Signal, part: keyof Parts): SignalReport {
    const hint = parts[part] === false ? `the option ${part} is false` : MISSING[part]
    return registry.descriptions.of(signal) ?? { to: [], hint }
  }
  return {
    service: resolveService(service),
    lines: describe('lines', 'logging'),
    spans: describe('spans', 'tracing'),
    points: describe('points', 'metrics'),
    events: describe('events', 'sentry'),
    dropped: lossesOf(registry.published)
  }
}

/** Logs once, when the app listens, where its signals go: as fields, and in a terminal in words. */
export function logReport(app: FastifyInstance, report: () => Report): void {
  app.addHook('onListen', async () => {
    const { service: _service, dropped: _dropped, ...signals } = report()
    const words = Object.entries(signals).map(([signal, { to, hint }]) => {
      return `${signal} to ${to.length > 0 ? to.join(', ') : `nowhere (${hint})`}`
    })
    if (process.stdout.isTTY) app.log.info(`telemetry: ${words.join('; ')}`)
    else app.log.info({ telemetry: signals, docs: docsOf('by-symptom') }, 'telemetry')
  })
}
