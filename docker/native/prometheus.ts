/** A sample of an instant query. */
interface Sample {
  metric: Record<string, string>
  value: number
}

interface Alert {
  name: string
  service: string | undefined
  state: string
}

/** Asks a Prometheus. */
export interface Prometheus {
  /** @throws if Prometheus refuses the expression */
  query(expr: string): Promise<Sample[]>
  /** The trace ids of the exemplars of the last hour. */
  exemplars(selector: string): Promise<string[]>
  alerts(): Promise<Alert[]>
  /** The names of all series that it has. */
  names(): Promise<string[]>
  /** The labels of all series that it has, by the name of the series. */
  labels(): Promise<Map<string, Set<string>>>
}

const ANSWER_MS = 10_000
const HOUR_S = 3_600

export function askPrometheus(url: string): Prometheus {
  async function get<Data>(path: string, parameters: Record<string, string> = {}): Promise<Data> {
    const response = await fetch(`${url}/api/v1/${path}?${new URLSearchParams(parameters)}`, {
      signal: AbortSignal.timeout(ANSWER_MS)
    })
    const { data, error }: { data: Data; error?: string } = JSON.parse(await response.text())
    if (error) throw new Error(`${error}: ${Object.values(parameters).join()}`)
    return data
  }

  return {
    async query(expr) {
      const { resultType, result } = await get<{ resultType: string; result: unknown }>('query', { query: expr })
      if (resultType === 'scalar') return []
      return (result as { metric: Record<string, string>; value: [number, string] }[]).map(({ metric, value }) => ({
        metric,
        value: Number(value[1])
      }))
    },
    async exemplars(selector) {
      const now = Date.now() / 1000
      const series = await get<{ exemplars: { labels: { trace_id?: string } }[] }[]>('query_exemplars', {
        query: selector,
        start: String(now - HOUR_S),
        end: String(now)
      })
      return series.flatMap(({ exemplars }) => exemplars.flatMap(({ labels }) => labels.trace_id ?? []))
    },
    async alerts() {
      const { alerts } = await get<{ alerts: { labels: Record<string, string>; state: string }[] }>('alerts')
      return alerts.map(({ labels, state }) => ({ name: labels.alertname ?? '', service: labels.service, state }))
    },
    names: () => get<string[]>('label/__name__/values'),
    async labels() {
      const labels = new Map<string, Set<string>>()
      for (const { __name__: name = '', ...own } of await get<Record<string, string>[]>('series', {
        'match[]': '{__name__=~".+"}'
      })) {
        labels.set(name, new Set([...(labels.get(name) ?? []), ...Object.keys(own)]))
      }
      return labels
    }
  }
}
