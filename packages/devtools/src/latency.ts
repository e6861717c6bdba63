import { isRecord } from '@fastify-observability/observation/internal'
import type { FastifyInstance } from 'fastify'

/** What the histogram of `/metrics` says of a route, since the service started. */
export interface RouteRow {
  readonly method: string
  readonly route: string
  readonly count: number
  /** Answers of 500 and above, and those that broke. */
  readonly errors: number
  readonly meanMs: number
  readonly p50Ms: number
  readonly p95Ms: number
  readonly p99Ms: number
}

interface Sample {
  readonly name: string
  readonly labels: Record<string, unknown>
  readonly value: number
}

const DURATION = 'http_server_request_duration_seconds'

/** Reads the request metrics of the app, `undefined` where it has none. */
export async function routeRows(app: FastifyInstance): Promise<RouteRow[] | undefined> {
  const samples = await samplesOf(app)
  if (!samples) return undefined
  const byRoute = Map.groupBy(samples, ({ labels }) => `${labels.http_request_method} ${labels.http_route}`)
  return Array.from(byRoute.values(), rowOf).toSorted((one, other) => other.count - one.count)
}

async function samplesOf(app: FastifyInstance): Promise<Sample[] | undefined> {
  // Of the metrics part, which no part imports.
  const metrics: unknown = app.hasDecorator('metrics') ? Reflect.get(app, 'metrics') : undefined
  const registry = isRecord(metrics) ? metrics.registry : undefined
  if (!isRecord(registry) || typeof registry.getSingleMetric !== 'function') return undefined
  const metric: unknown = registry.getSingleMetric(DURATION)
  if (!isRecord(metric) || typeof metric.get !== 'function') return undefined
  const family: unknown = await metric.get()
  const values = isRecord(family) && Array.isArray(family.values) ? family.values : []
  return values.flatMap((value: unknown) => (isSample(value) ? [{ ...value, name: value.metricName }] : []))
}

function isSample(value: unknown): value is Omit<Sample, 'name'> & { metricName: string } {
  return (
    isRecord(value) && isRecord(value.labels) && typeof value.value === 'number' && typeof value.metricName === 'string'
  )
}

function rowOf(samples: readonly Sample[]): RouteRow {
  const labels: Sample['labels'] = samples[0]?.labels ?? {}
  const counts = samples.filter(({ name }) => name === `${DURATION}_count`)
  const count = sumOf(counts)
  const failed = counts.filter(({ labels }) => isFailed(labels))
  const sum = sumOf(samples.filter(({ name }) => name === `${DURATION}_sum`))
  const buckets = bucketsOf(samples)
  return {
    method: String(labels.http_request_method),
    route: String(labels.http_route),
    count,
    errors: sumOf(failed),
    meanMs: count === 0 ? 0 : (1_000 * sum) / count,
    p50Ms: 1_000 * quantile(0.5, buckets),
    p95Ms: 1_000 * quantile(0.95, buckets),
    p99Ms: 1_000 * quantile(0.99, buckets)
  }
}

function isFailed({ http_response_status_code: status, error_type: type }: Sample['labels']): boolean {
  return /^5/.test(String(status)) || (type !== undefined && type !== '' && type !== 'client_disconnect')
}

function sumOf(samples: readonly Sample[]): number {
  return samples.reduce((sum, { value }) => sum + value, 0)
}

type Bucket = readonly [upTo: number, count: number]

/** Cumulative, with the sum of all label sets. */
function bucketsOf(samples: readonly Sample[]): Bucket[] {
  const counts = new Map<number, number>()
  for (const { name, labels, value } of samples) {
    if (name !== `${DURATION}_bucket`) continue
    const upTo = labels.le === '+Inf' ? Number.POSITIVE_INFINITY : Number(labels.le)
    counts.set(upTo, (counts.get(upTo) ?? 0) + value)
  }
  return Array.from(counts).toSorted(([one], [other]) => one - other)
}

/** As Prometheus' `histogram_quantile`. */
function quantile(share: number, buckets: readonly Bucket[]): number {
  const total = buckets.at(-1)?.[1] ?? 0
  const rank = share * total
  let [from, below] = [0, 0]
  for (const [upTo, count] of buckets) {
    if (count >= rank && count > below) {
      return upTo === Number.POSITIVE_INFINITY ? from : from + ((upTo - from) * (rank - below)) / (count - below)
    }
    from = upTo === Number.POSITIVE_INFINITY ? from : upTo
    below = count
  }
  return 0
}
