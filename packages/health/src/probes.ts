import type { FastifyInstance, FastifyRequest, RouteShorthandOptions } from 'fastify'
import type { CheckReport, CheckState } from './check.ts'
import type { HealthOptions } from './options.ts'

/** What the probes answer with. */
export interface ProbeSources {
  readonly version: string | undefined
  isStarted(): boolean
  /** The last results, after those that are too old were renewed. */
  check(): Promise<[string, CheckReport][]>
  /** Called when readiness is asked for. */
  asked(): void
  statusOf(checks: [string, CheckReport][]): 'ready' | 'degraded' | 'not_ready'
}

const PROBE: RouteShorthandOptions = {
  schema: { hide: true },
  exposeHeadRoute: true,
  config: { observability: { log: 'failures', trace: false, shed: false, operational: true } },
  onRequest(_request, reply, done) {
    reply.header('cache-control', 'no-store')
    done()
  }
}

/** @param showsDetails whether this request may see why the status is what it is. */
export function addProbes(
  app: FastifyInstance,
  {
    liveness = '/health',
    readiness = '/health/ready',
    startup = '/health/startup'
  }: NonNullable<HealthOptions['paths']>,
  { version, isStarted, check, asked, statusOf }: ProbeSources,
  showsDetails: (request: FastifyRequest) => boolean
): void {
  app.get(liveness, PROBE, async () => ({ status: 'healthy', version }))

  app.get(readiness, PROBE, async (request, reply) => {
    asked()
    const checks = await check()
    const status = statusOf(checks)
    reply.code(status === 'not_ready' ? 503 : 200)
    return {
      status,
      checks: Object.fromEntries(checks.map(([name, { state }]): [string, CheckState] => [name, state])),
      ...(showsDetails(request) && {
        details: Object.fromEntries(checks.map(([name, report]) => [name, detailsOf(report)]))
      })
    }
  })

  app.get(startup, PROBE, async (_request, reply) => {
    reply.code(isStarted() ? 200 : 503)
    return { status: isStarted() ? 'started' : 'starting' }
  })
}

function detailsOf({ critical, durationMs, error, details }: CheckReport): object {
  return { ...details, critical, duration_ms: durationMs, error }
}
