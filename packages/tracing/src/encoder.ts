import type { HrTime, SpanContext } from '@opentelemetry/api'
import type { InstrumentationScope } from '@opentelemetry/core'
import type { Resource } from '@opentelemetry/resources'
import type { ReadableSpan } from '@opentelemetry/sdk-trace-node'
import {
  begin,
  copyTo,
  endContent,
  endMessage,
  writeBytes,
  writeDouble,
  writeFixed32,
  writeFixed64,
  writeHex,
  writeInteger,
  writeTag,
  writeText,
  written,
  writtenSince
} from './protobuf.ts'

const HAS_IS_REMOTE = 0x100
const IS_REMOTE = 0x200

const MAX_KNOWN_KEYS = 512
const MAX_KNOWN_BYTES = 256
// A value that was not seen again for so long makes way for the present one.
const MAX_MISSES = 64

// Most attributes have the value that they had in the span before.
const known = new Map<string, { value: unknown; encoded: Uint8Array; misses: number }>()

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
  add(span: ReadableSpan): void {
    begin()
    writeSpan(span)
    append(this.of(span))
    this.spans++
  }

  /** Resolves when everything is known that the request says. */
  async ready(): Promise<void> {
    for (const resource of this.resources.keys()) await resource.waitForAsyncAttributes?.()
  }

  /** The request, valid until `release`. */
  encode(): Uint8Array {
    begin()
    for (const [resource, scopes] of [...this.resources].reverse()) {
      const end = written()
      if (resource.schemaUrl) writeText(3, resource.schemaUrl)
      for (const [scope, { buffer, filled }] of [...scopes].reverse()) {
        const scopeSpansEnd = written()
        if (scope.schemaUrl) writeText(3, scope.schemaUrl)
        writeBytes(buffer.subarray(0, filled))
        const scopeEnd = written()
        if (scope.version) writeText(2, scope.version)
        writeText(1, scope.name)
        endMessage(1, scopeEnd)
        endMessage(2, scopeSpansEnd)
      }
      const resourceEnd = written()
      writeInteger(2, 0)
      writeAttributes(1, resource.attributes)
      endMessage(1, resourceEnd)
      endMessage(1, end)
    }
    const request = requestOf(written())
    this.request = request
    copyTo(Buffer.from(request), 0)
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
    const encoded = { buffer: bufferOf(INITIAL_BYTES), filled: 0 }
    this.resources.set(resource, scopes.set(instrumentationScope, encoded))
    return encoded
  }
}

function append(to: Encoded): void {
  const needed = to.filled + written()
  if (needed > to.buffer.length) {
    const larger = bufferOf(Math.max(2 * to.buffer.length, needed))
    larger.set(to.buffer.subarray(0, to.filled))
    giveBack(to.buffer)
    to.buffer = larger
  }
  copyTo(to.buffer, to.filled)
  to.filled = needed
}

function writeSpan(span: ReadableSpan): void {
  const end = written()
  const { parentSpanContext: parent, status } = span
  const spanContext = span.spanContext()
  writeFlags(16, spanContext.traceFlags, parent?.isRemote)
  const statusEnd = written()
  writeInteger(3, status.code)
  if (status.message) writeText(2, status.message)
  endMessage(15, statusEnd)
  writeInteger(14, span.droppedLinksCount)
  for (let index = span.links.length - 1; index >= 0; index--) {
    const link = span.links[index]
    if (!link) continue
    const { context, attributes = {}, droppedAttributesCount = 0 } = link
    const linkEnd = written()
    writeFlags(6, context.traceFlags, context.isRemote)
    writeInteger(5, droppedAttributesCount)
    writeAttributes(4, attributes)
    writeContext(context)
    endMessage(13, linkEnd)
  }
  writeInteger(12, span.droppedEventsCount)
  for (let index = span.events.length - 1; index >= 0; index--) {
    const event = span.events[index]
    if (!event) continue
    const { time, name, attributes = {}, droppedAttributesCount = 0 } = event
    const eventEnd = written()
    writeInteger(4, droppedAttributesCount)
    writeAttributes(3, attributes)
    writeText(2, name)
    writeTime(1, time)
    endMessage(11, eventEnd)
  }
  writeInteger(10, span.droppedAttributesCount)
  writePresent(9, span.attributes)
  writeTime(8, span.endTime)
  writeTime(7, span.startTime)
  writeInteger(6, span.kind + 1)
  writeText(5, span.name)
  if (parent?.spanId) writeHex(4, parent.spanId)
  writeContext(spanContext)
  endMessage(2, end)
}

function writeFlags(field: number, traceFlags: number, isRemote = false): void {
  writeFixed32(field, (traceFlags & 0xff) | HAS_IS_REMOTE | (isRemote ? IS_REMOTE : 0))
}

function writeContext({ traceId, spanId, traceState }: SpanContext): void {
  const state = traceState?.serialize()
  if (state) writeText(3, state)
  writeHex(2, spanId)
  writeHex(1, traceId)
}

function writeTime(field: number, [seconds, nanoseconds]: HrTime): void {
  // Nanoseconds since 1970 are no safe integer: the lower half is exact, and for the upper one near is enough.
  const low = (Math.imul(seconds, 1e9) + nanoseconds) >>> 0
  writeFixed64(field, low, Math.round((seconds * 1e9 + nanoseconds - low) / 2 ** 32))
}

const present: string[] = []

/** Without those that have no value. */
function writePresent(field: number, attributes: Record<string, unknown>): void {
  let count = 0
  for (const key in attributes) if (attributes[key] !== undefined) present[count++] = key
  while (count > 0) {
    const key = present[--count]
    if (key !== undefined) writeAttribute(field, key, attributes[key])
  }
}

function writeAttributes(field: number, attributes: Record<string, unknown>): void {
  for (const key of Object.keys(attributes).reverse()) writeAttribute(field, key, attributes[key])
}

function writeAttribute(field: number, key: string, value: unknown): void {
  const before = known.get(key)
  if (before && before.value === value) {
    before.misses = 0
    writeBytes(before.encoded)
  } else {
    const end = written()
    writeValue(2, value)
    writeText(1, key)
    endContent(end)
    if (before ? ++before.misses > MAX_MISSES : known.size < MAX_KNOWN_KEYS) learn(key, value, end)
  }
  writeTag(field)
}

function learn(key: string, value: unknown, end: number): void {
  // Objects may have changed when they are seen again.
  if (typeof value === 'object' || written() - end > MAX_KNOWN_BYTES) return
  known.set(key, { value, encoded: writtenSince(end), misses: 0 })
}

function writeValue(field: number, value: unknown): void {
  const end = written()
  if (typeof value === 'string') writeText(1, value)
  else if (typeof value === 'boolean') writeInteger(2, value ? 1 : 0)
  else if (typeof value === 'number') writeNumber(value)
  else if (value instanceof Uint8Array) {
    writeBytes(value)
    endMessage(7, end)
  } else if (Array.isArray(value)) {
    for (const item of value.toReversed()) writeValue(1, item)
    endMessage(5, end)
  } else if (isRecord(value)) {
    writeAttributes(1, value)
    endMessage(6, end)
  }
  endMessage(field, end)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

function writeNumber(value: number): void {
  // All that an int64 holds, safe or not.
  if (Number.isInteger(value) && value >= -(2 ** 63) && value < 2 ** 63) writeInteger(3, value)
  else writeDouble(4, value)
}
