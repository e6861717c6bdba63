import { profileLink } from '../queries.ts'

/** What a flame graph is drawn from. */
interface FlameGraph {
  functions: string[]
  nanoseconds: number
}

const HOUR_MS = 3_600_000

/** Asks Pyroscope as Grafana does. @param spans ids of the spans whose samples are wanted. @default all samples */
export async function flameGraph(
  url: string,
  labels: Record<string, string>,
  spans?: readonly string[]
): Promise<FlameGraph> {
  const matchers = Object.entries(labels).map(([name, value]) => `${name}="${value}"`)
  const method = spans ? 'SelectMergeSpanProfile' : 'SelectMergeStacktraces'
  const response = await fetch(`${url}/querier.v1.QuerierService/${method}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      profileTypeID: profileLink().profileTypeId,
      labelSelector: `{${matchers.join(', ')}}`,
      start: Date.now() - HOUR_MS,
      end: Date.now(),
      ...(spans && { spanSelector: spans })
    })
  })
  if (!response.ok) throw new Error(`Pyroscope answered ${response.status}: ${await response.text()}`)
  const { flamegraph }: { flamegraph?: { names: string[]; total?: string } } = JSON.parse(await response.text())
  const [, ...functions] = flamegraph?.names ?? []
  return { functions, nanoseconds: Number(flamegraph?.total ?? 0) }
}
