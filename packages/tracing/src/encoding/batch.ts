import { Buffer } from 'node:buffer'
import type { InstrumentationScope } from '@opentelemetry/core'
import type { Resource } from '@opentelemetry/resources'
import type { ReadableSpan } from '@opentelemetry/sdk-trace'
import { attributesOf } from './attributes.ts'
import { integer, lengthOf, message, text } from './protobuf.ts'
import { type EncodableSpan, encodeSpan } from './span.ts'

const INITIAL_BYTES = 16 * 1024
const MAX_SPARES = 8
const MAX_SPARE_BYTES = 1024 * 1024

// Buffers are used again: memory beside the heap makes the garbage collector run.
const spares: Buffer[] = []

function bufferOf(size: number): Buffer {
  const index = spares.findLastIndex((spare) => spare.length >= size)
  return (index !== -1 && spares.splice(index, 1)[0]) || Buffer.allocUnsafeSlow(size)
}

const requests: ArrayBuffer[] = []

function requestOf(size: number): ArrayBuffer {
  const spare = requests.pop()
  if (!spare || spare.maxByteLength < size) {
    return new ArrayBuffer(size, { maxByteLength: Math.max(size, MAX_SPARE_BYTES) })
  }
  spare.resize(size)
  return spare
}

function giveBack(buffer: Buffer): void {
  if (spares.length < MAX_SPARES && buffer.length <= MAX_SPARE_BYTES) spares.push(buffer)
}

/** Spans of one scope, one after the other. */
interface Encoded {
  buffer: Buffer
  filled: number
  /** What is not in the buffer yet. */
  fresh: string
}

/**
 * An ExportTraceServiceRequest in the making, in the same bytes as OpenTelemetry's own serializer makes. Each span is
 * encoded when it is added: what waits is a few large buffers, and not objects for the garbage collector to move about.
 * @see https://github.com/open-telemetry/opentelemetry-proto/blob/v1.9.0/opentelemetry/proto/trace/v1/trace.proto
 */
export class SpanBatch {
  spans = 0
  private readonly resources = new Map<Resource, Map<InstrumentationScope, Encoded>>()
  private request: ArrayBuffer | undefined

  /** Throws what the span's own objects throw, and is then as before. */
  add(span: EncodableSpan): void {
    const field = message(2, encodeSpan(span))
    this.of(span).fresh += field
    this.spans++
  }

  /** Moves what was added into the buffers. Several spans at once, because each move costs as much as its span. */
  settle(): void {
    for (const scopes of this.resources.values()) for (const encoded of scopes.values()) append(encoded)
  }

  /** Resolves when everything is known that the request says. */
  async ready(): Promise<void> {
    for (const resource of this.resources.keys()) await resource.waitForAsyncAttributes?.()
  }

  /** The request, valid until `release`. */
  encode(): Uint8Array {
    this.settle()
    const parts: (string | Uint8Array)[] = []
    for (const [resource, scopes] of this.resources) {
      const { attributes, schemaUrl } = resource
      const start = parts.length
      parts.push(message(1, attributesOf(1, attributes) + integer(2, 0)))
      for (const [{ name, version, schemaUrl: scopeSchemaUrl }, { buffer, filled }] of scopes) {
        const scope = message(1, text(1, name) + (version ? text(2, version) : ''))
        const end = scopeSchemaUrl ? text(3, scopeSchemaUrl) : ''
        parts.push(lengthOf(2, scope.length + filled + end.length) + scope, buffer.subarray(0, filled), end)
      }
      if (schemaUrl) parts.push(text(3, schemaUrl))
      parts.splice(start, 0, lengthOf(1, sizeOf(parts.slice(start))))
    }
    const request = requestOf(sizeOf(parts))
    this.request = request
    join(parts, Buffer.from(request))
    // The gRPC exporter calls Buffer.from(), which copies no memory that stands behind a value.
    return Object.assign(new Uint8Array(request), { valueOf: () => request })
  }

  /** Ends the use of the batch. */
  release(): void {
    for (const scopes of this.resources.values()) for (const { buffer } of scopes.values()) giveBack(buffer)
    if (this.request && requests.length < MAX_SPARES) requests.push(this.request)
    this.resources.clear()
  }

  private of({ resource, instrumentationScope }: ReadableSpan): Encoded {
    const scopes = this.resources.get(resource) ?? new Map<InstrumentationScope, Encoded>()
    const known = scopes.get(instrumentationScope)
    if (known) return known
    const encoded = { buffer: bufferOf(INITIAL_BYTES), filled: 0, fresh: '' }
    this.resources.set(resource, scopes.set(instrumentationScope, encoded))
    return encoded
  }
}

function sizeOf(parts: (string | Uint8Array)[]): number {
  return parts.reduce((size, { length }) => size + length, 0)
}

function join(parts: (string | Uint8Array)[], target: Buffer): void {
  let at = 0
  for (const part of parts) {
    if (typeof part === 'string') target.write(part, at, 'latin1')
    else target.set(part, at)
    at += part.length
  }
}

function append(to: Encoded): void {
  const { fresh } = to
  const needed = to.filled + fresh.length
  if (needed > to.buffer.length) {
    const larger = bufferOf(Math.max(2 * to.buffer.length, needed))
    larger.set(to.buffer.subarray(0, to.filled))
    giveBack(to.buffer)
    to.buffer = larger
  }
  to.buffer.write(fresh, to.filled, 'latin1')
  to.filled = needed
  to.fresh = ''
}
