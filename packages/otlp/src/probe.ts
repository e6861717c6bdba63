import { randomBytes } from 'node:crypto'
import type { Service } from '@fastify-observability/observation/internal'
import type { Connection } from './connection.ts'
import { type Destination, destinationOf, type Protocol, requestUrl, type Signal, type Warn } from './destination.ts'
import { Batch, type Scope } from './encoding/batch.ts'
import { encodeMetric } from './encoding/metric.ts'
import { encodeRecord } from './encoding/record.ts'
import { encodeSpan } from './encoding/span.ts'
import { connectGrpc } from './grpc.ts'
import { connectHttp } from './http.ts'
import { resourceOf } from './resource.ts'

export interface ProbeOptions {
  signal: Signal
  /** Base URL of the collector, before what the environment says. @default OTEL_EXPORTER_OTLP_(TRACES_,…)ENDPOINT */
  endpoint?: string | undefined
  service: Service
  scope: Scope
  /** What the test item is called. */
  name: string
  warn: Warn
}

/** Where a signal goes, and whether one test item gets there. */
export interface Probe extends Pick<Destination, 'protocol' | 'url' | 'tls' | 'shown'> {
  /** One attempt. Resolves with why it was not accepted, in words without secrets; `undefined`: it was. Never rejects. */
  send(timeoutMs: number): Promise<string | undefined>
  /** The same host and port over the other protocol. */
  inOtherProtocol(): Probe
}

const SAMPLED = 1
const INFO = 9
const INTERNAL = 0

/** Sends as the exporters do, by the same variables: address, protocol, headers, compression, certificates. */
export function probeOf({ signal, endpoint, warn, ...item }: ProbeOptions): Probe {
  return probeAt(destinationOf(signal, endpoint, warn), item)
}

function probeAt(destination: Destination, item: Omit<ProbeOptions, 'signal' | 'endpoint' | 'warn'>): Probe {
  const { protocol, url, tls, shown } = destination
  return {
    protocol,
    url,
    tls,
    shown,
    async send(timeoutMs) {
      const connection = protocol === 'grpc' ? connectGrpc(destination) : connectHttp(destination)
      try {
        return await sendOver(connection, batchOf(destination.signal, item), timeoutMs)
      } catch {
        return 'the exporter failed'
      } finally {
        connection.close()
      }
    },
    inOtherProtocol: () => probeAt(inOtherProtocol(destination), item)
  }
}

async function sendOver(connection: Connection, batch: Batch, timeoutMs: number): Promise<string | undefined> {
  await batch.ready()
  const { body } = batch.encode()
  const answer = await connection.send(body, timeoutMs)
  if ('reason' in answer) return answer.reason
  return answer.rejected > 0 ? 'rejected' : undefined
}

function inOtherProtocol(destination: Destination): Destination {
  const protocol: Protocol = destination.protocol === 'grpc' ? 'http/protobuf' : 'grpc'
  const { url, signal } = destination
  return { ...destination, protocol, url: protocol === 'grpc' ? url : new URL(requestUrl(url.href, signal)) }
}

function batchOf(signal: Signal, { service, scope, name }: Pick<ProbeOptions, 'service' | 'scope' | 'name'>): Batch {
  const batch = new Batch()
  const resource = resourceOf(service)
  const now = Date.now()
  for (const content of contents()) batch.add(resource, scope, content)
  return batch

  function contents(): string[] {
    if (signal === 'logs') {
      const record = { timeMs: now, severityNumber: INFO, severityText: 'info', body: name, attributes: {} }
      return [encodeRecord(record, now)]
    }
    if (signal === 'metrics') {
      const points = [{ attributes: {}, timeMs: now, value: 1 }]
      return Array.from(encodeMetric({ name, type: 'gauge', points }), ({ content }) => content)
    }
    const ids = { traceId: randomBytes(16).toString('hex'), spanId: randomBytes(8).toString('hex') }
    const time: [number, number] = [Math.floor(now / 1_000), (now % 1_000) * 1e6]
    return [
      encodeSpan({
        name,
        kind: INTERNAL,
        startTime: time,
        endTime: time,
        attributes: {},
        events: [],
        links: [],
        status: { code: 0 },
        droppedAttributesCount: 0,
        droppedEventsCount: 0,
        droppedLinksCount: 0,
        resource,
        instrumentationScope: scope,
        spanContext: () => ({ ...ids, traceFlags: SAMPLED })
      })
    ]
  }
}
