import { Server } from 'node:tls'
import {
  isOpenTelemetryDisabled,
  listFromEnv,
  type Service,
  withDocs
} from '@fastify-observability/observation/internal'
import type { PointExport } from '@fastify-observability/otlp'
import type { FastifyInstance } from 'fastify'
import manifest from '../../package.json' with { type: 'json' }
import type { Family } from '../exposition/format.ts'
import { createPointSource } from './points.ts'

const SCOPE = '@fastify-observability/metrics'
const EXPORTERS = ['otlp', 'prometheus', 'none']

/**
 * Sends what `/metrics` shows over OTLP, again and again, if the option or the environment asks for it; without the
 * exporter's package there is a warning instead.
 */
export async function pushPoints(
  option: boolean | undefined,
  { log, server }: FastifyInstance,
  service: Service,
  collect: () => Promise<readonly Family[]>
): Promise<PointExport | undefined> {
  const warn = (message: string): void => log.warn(withDocs('wrong-options'), `metrics: ${message}`)
  const named = listFromEnv('OTEL_METRICS_EXPORTER', EXPORTERS, warn) ?? []
  if (!(option ?? named.includes('otlp')) || isOpenTelemetryDisabled(warn)) return undefined
  const scheme = server instanceof Server ? 'https' : 'http'
  const toPoints = createPointSource({ startTimeMs: Date.now(), scheme })
  try {
    // Loaded only where somebody wants it.
    const { exportPoints } = await import('@fastify-observability/otlp')
    const points = exportPoints({
      service,
      scope: { name: SCOPE, version: manifest.version },
      log: { warn: (fields, message) => log.warn(fields, `metrics: ${message}`) },
      collect: async (temporality) => toPoints(await collect(), temporality, Date.now())
    })
    const { endpoint, protocol, note } = points
    log.info({ endpoint }, `metrics: pushing points over ${protocol}${note ? ` (${note})` : ''}`)
    return points
  } catch (err) {
    log.warn(
      withDocs('missing-packages', { err }),
      'metrics: not pushed over OTLP: install @fastify-observability/otlp'
    )
    return undefined
  }
}
