import { clearTimeout, setTimeout } from '@fastify-observability/observation/internal'
import type { AppRegistry } from '../registry.ts'
import type { Family, Sample } from './format.ts'

const TIMEOUT_MS = 700

/**
 * Makes the function that reads all metrics of a registry. A metric that throws, rejects or hangs is left out and
 * reported; it is not read again while it hangs.
 */
export function createCollector(
  { registry, defaultLabels }: AppRegistry,
  failed: (metric: string, error: unknown) => void
) {
  const pending = new Set<string>()

  async function read(name: string, expired: Promise<never>): Promise<Family[]> {
    if (pending.has(name)) return []
    try {
      const metric = registry.getSingleMetric(name)
      if (!metric) return []
      pending.add(name)
      const family = metric.get().finally(() => pending.delete(name))
      return [complete(await Promise.race([family, expired]))]
    } catch (error) {
      failed(name, error)
      return []
    }
  }

  /** With the default labels, and without samples that cannot be written. */
  function complete(family: Family): Family {
    const defaults = defaultLabels()
    const readable = family.values.filter(({ labels }) => isReadable(labels))
    if (readable.length < family.values.length) failed(family.name, new TypeError('a label is not a text'))
    const hasDefaults = Object.keys(defaults).length > 0 && isReadable(defaults)
    return { ...family, values: hasDefaults ? readable.map((sample) => withLabels(sample, defaults)) : readable }
  }

  return async (): Promise<Family[]> => {
    const { promise: expired, reject } = Promise.withResolvers<never>()
    const timer = setTimeout(() => reject(new Error(`not collected in ${TIMEOUT_MS} ms`)), TIMEOUT_MS)
    try {
      const families = await Promise.all(registry.getMetricsAsArray().map(({ name }) => read(name, expired)))
      return families.flat()
    } finally {
      clearTimeout(timer)
    }
  }
}

function withLabels(sample: Sample, defaults: Sample['labels']): Sample {
  const labels = { ...sample.labels }
  for (const name in defaults) labels[name] ??= defaults[name]
  return { ...sample, labels }
}

// Metrics of the client's keep whatever they were given, objects without a prototype included.
function isReadable(labels: Readonly<Record<string, unknown>> = {}): boolean {
  for (const name in labels) {
    const value = labels[name]
    if (typeof value === 'symbol' || typeof value === 'function') return false
    if (typeof value === 'object' && value !== null) return false
  }
  return true
}
