// What Tempo's metrics generator makes of spans, by its documented rules: where there is no Tempo, Prometheus scrapes it here.
// https://grafana.com/docs/tempo/latest/metrics-from-traces
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { parse } from 'yaml'
import { type Attributes, readSpans, type SentSpan } from './sent.ts'

/** Who called whom, once. */
export interface Edge {
  client: string
  server: string
  connectionType: '' | 'database' | 'messaging_system' | 'virtual_node'
  failed: boolean
  clientSeconds: number
  serverSeconds: number
}

/** What tempo.yaml sets of the generator. */
export interface GeneratorSettings {
  peerAttributes: string[]
  dimensions: string[]
}

/** Serves the series; `close` ends it. */
export interface Generator {
  close(): Promise<void>
}

type Labels = Record<string, string>

// The first of these that a client span has makes it a call of a database.
const DATABASE_NAMES = ['db.namespace', 'db.name', 'db.system']
const EDGE_BUCKETS = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8]
const SPAN_BUCKETS = Array.from({ length: 14 }, (_, power) => 0.002 * 2 ** power)

export function generatorSettings(): GeneratorSettings {
  const { processor } = parse(readFileSync(new URL('../tempo.yaml', import.meta.url), 'utf8')).metrics_generator
  return { peerAttributes: processor.service_graphs.peer_attributes, dimensions: processor.span_metrics.dimensions }
}

function first(attributes: Attributes, names: string[]): string | undefined {
  const name = names.find((name) => attributes[name] !== undefined)
  return name === undefined ? undefined : String(attributes[name])
}

function databaseOf({ attributes, resource }: SentSpan): string | undefined {
  const all = { ...attributes, ...resource }
  const name = first(all, DATABASE_NAMES)
  if (name === undefined) return undefined
  const host = first(all, ['network.peer.address'])
  const port = first(all, ['network.peer.port'])
  const peer = host !== undefined && port !== undefined ? `${host}:${port}` : host
  return first(all, ['peer.service', 'server.address']) ?? peer ?? name
}

/**
 * The edges of the service graph. A client span and the server span below it are one; a client span alone calls a database or
 * what its peer attributes name; a root server span alone was called by what its peer attributes name, else by a user.
 */
export function serviceGraph(spans: SentSpan[], peerAttributes: string[]): Edge[] {
  const isClient = ({ kind }: SentSpan) => kind === 'SPAN_KIND_CLIENT' || kind === 'SPAN_KIND_PRODUCER'
  const isServer = ({ kind }: SentSpan) => kind === 'SPAN_KIND_SERVER' || kind === 'SPAN_KIND_CONSUMER'
  const hasFailed = ({ status }: SentSpan) => status === 'STATUS_CODE_ERROR'
  const servers = new Map(
    spans.filter(isServer).map((span) => [`${span.traceId}-${span.parentSpanId || span.spanId}`, span])
  )
  const edges: Edge[] = []
  for (const client of spans.filter(isClient)) {
    const key = `${client.traceId}-${client.spanId}`
    const answered = servers.get(key)
    servers.delete(key)
    const database = databaseOf(client)
    const peer = first(client.attributes, peerAttributes)
    const server = answered?.service ?? database ?? peer
    if (server === undefined) continue
    const messaging = client.kind === 'SPAN_KIND_PRODUCER' ? 'messaging_system' : ''
    edges.push({
      client: client.service,
      server,
      connectionType: answered ? messaging : database !== undefined ? 'database' : 'virtual_node',
      failed: hasFailed(client) || (answered !== undefined && hasFailed(answered)),
      clientSeconds: client.seconds,
      serverSeconds: answered?.seconds ?? (database === undefined ? 0 : client.seconds)
    })
  }
  for (const span of servers.values()) {
    if (span.parentSpanId !== '') continue
    edges.push({
      client: first(span.attributes, peerAttributes) ?? 'user',
      server: span.service,
      connectionType: 'virtual_node',
      failed: hasFailed(span),
      clientSeconds: 0,
      serverSeconds: span.seconds
    })
  }
  return edges
}

/** The labels that a span is counted under. */
function spanLabels({ service, name, kind, status, attributes, resource }: SentSpan, dimensions: string[]): Labels {
  const labels: Labels = { service, span_name: name, span_kind: kind, status_code: status }
  for (const dimension of dimensions) {
    const value = first({ ...attributes, ...resource }, [dimension])
    if (value !== undefined) labels[dimension.replace(/\W/g, '_')] = value
  }
  return labels
}

function written(labels: Labels): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
    .join()
}

function counter(name: string, samples: Labels[]): string {
  const counts = new Map<string, number>()
  for (const labels of samples) counts.set(written(labels), (counts.get(written(labels)) ?? 0) + 1)
  return [`# TYPE ${name} counter`, ...[...counts].map(([labels, count]) => `${name}{${labels}} ${count}`)].join('\n')
}

function histogram(name: string, bounds: number[], samples: { labels: Labels; value: number }[]): string {
  const series = Map.groupBy(samples, ({ labels }) => written(labels))
  const lines = [...series].flatMap(([labels, all]) => [
    ...bounds.map(
      (bound) => `${name}_bucket{${labels},le="${bound}"} ${all.filter(({ value }) => value <= bound).length}`
    ),
    `${name}_bucket{${labels},le="+Inf"} ${all.length}`,
    `${name}_sum{${labels}} ${all.reduce((sum, { value }) => sum + value, 0)}`,
    `${name}_count{${labels}} ${all.length}`
  ])
  return [`# TYPE ${name} histogram`, ...lines].join('\n')
}

/** The series that Tempo writes to Prometheus, as a scrape has them. */
function generatedSeries(spans: SentSpan[], { peerAttributes, dimensions }: GeneratorSettings): string {
  const edges = serviceGraph(spans, peerAttributes).map((edge) => ({
    ...edge,
    labels: { client: edge.client, server: edge.server, connection_type: edge.connectionType }
  }))
  const labelled = spans.map((span) => ({ labels: spanLabels(span, dimensions), value: span.seconds }))
  const failed = edges.filter((edge) => edge.failed)
  const graph = 'traces_service_graph_request'
  return `${[
    counter(
      'traces_spanmetrics_calls_total',
      labelled.map(({ labels }) => labels)
    ),
    histogram('traces_spanmetrics_latency', SPAN_BUCKETS, labelled),
    counter(
      `${graph}_total`,
      edges.map(({ labels }) => labels)
    ),
    counter(
      `${graph}_failed_total`,
      failed.map(({ labels }) => labels)
    ),
    histogram(
      `${graph}_server_seconds`,
      EDGE_BUCKETS,
      edges.map(({ labels, serverSeconds: value }) => ({ labels, value }))
    ),
    histogram(
      `${graph}_client_seconds`,
      EDGE_BUCKETS,
      edges.map(({ labels, clientSeconds: value }) => ({ labels, value }))
    )
  ].join('\n')}\n`
}

/** Serves what comes of the spans in the file, which the collector writes. */
export async function startGenerator(file: string, host: string, port: number): Promise<Generator> {
  const settings = generatorSettings()
  const server = createServer((_request, response) => {
    response.setHeader('content-type', 'text/plain; version=0.0.4').end(generatedSeries(readSpans(file), settings))
  })
  const { promise: listening, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject).listen(port, host, resolve)
  await listening
  return {
    async close() {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    }
  }
}
