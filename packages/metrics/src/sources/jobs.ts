import type { PartJobObserver } from '@fastify-observability/observation/internal'
import type { Factory } from '../instruments/factory.ts'

// Jobs take up to hours.
const BUCKETS = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3_600]

/** Keeps the duration of jobs, which a service without any does not show. */
export function observeJobs({ histogram }: Pick<Factory, 'histogram'>): PartJobObserver {
  return {
    name: '@fastify-observability/metrics',
    kind: 'job',
    end({ job }, { result, durationMs }) {
      histogram({
        name: 'job_duration_seconds',
        help: 'Duration of jobs, each attempt by itself.',
        labelNames: ['job', 'outcome'],
        buckets: BUCKETS
      }).observe({ job, outcome: result }, durationMs / 1000)
    }
  }
}
