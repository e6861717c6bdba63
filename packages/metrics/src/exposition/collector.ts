import type { Registry } from '@prometheus-io/client'
import type { Family } from './format.ts'

const TIMEOUT_MS = 700

/**
 * Makes the function that reads all metrics of a registry. A metric that throws, rejects or hangs is left out and
 * reported; it is not read again while it hangs.
 */
export function createCollector(registry: Registry, failed: (metric: string, error: unknown) => void) {
  const pending = new Set<string>()

  async function read(name: string, expired: Promise<never>): Promise<Family[]> {
    if (pending.has(name)) return []
    try {
      const metric = registry.getSingleMetric(name)
      if (!metric) return []
      pending.add(name)
      const family = metric.get().finally(() => pending.delete(name))
      return [await Promise.race([family, expired])]
    } catch (error) {
      failed(name, error)
      return []
    }
  }

  return async (): Promise<Family[]> => {
    const { promise: expired, reject } = Promise.withResolvers<never>()
    expired.catch(() => undefined)
    const timer = setTimeout(() => reject(new Error(`not collected in ${TIMEOUT_MS} ms`)), TIMEOUT_MS)
    try {
      const families = await Promise.all(registry.getMetricsAsArray().map(({ name }) => read(name, expired)))
      return families.flat()
    } finally {
      clearTimeout(timer)
    }
  }
}
