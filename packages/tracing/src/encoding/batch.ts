import { Buffer } from 'node:buffer'
import type { HrTime, SpanContext } from '@opentelemetry/api'
import type { InstrumentationScope } from '@opentelemetry/core'
import type { Resource } from '@opentelemetry/resources'
import type { ReadableSpan } from '@opentelemetry/sdk-trace-node'
import { bytes, double, fixed32, fixed64, hex, integer, lengthOf, message, text, utf8 } from './protobuf.ts'

const HAS_IS_REMOTE = 0x100
const IS_REMOTE = 0x200

const SPAN_ATTRIBUTES = 9

const MAX_NAMES = 512
const MAX_KEYS = 512
const MAX_SHARED_TEXT = 1_024
const MAX_KEPT_LENGTH = 127
// After so many spans, what they share is looked for anew.
const SHARED_FOR = 1_024

/** What spans of one name have in common: the first of their attributes, whose values do not change. */
interface Shared {
  /** The field of the name. */
  name: string
  keys: string[]
  values: unknown[]
  /** The fields of all attributes up to each one. */
  texts: string[]
  /** Spans that will still use it. */
  uses: number
}

const sharedByName = new Map<string, Shared>()

/** What an attribute of a span begins with. */
interface Key {
  /** The field of the key. */
  field: string
  /** All that comes before a text, by its bytes. */
  heads: (string | undefined)[]
}

const keys = new Map<string, Key>()
/** The fields of the names of events. */
const eventNames = new Map<string, string>()

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

/** A span that may know its ids as the bytes they stand for, which saves reading their digits. */
export interface EncodableSpan extends ReadableSpan {
  /** Sixteen characters of the trace's and eight of its own, each a byte. */
  readonly idBytes?: string | undefined
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
    const field = message(2, contentOf(span))
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

function contentOf(span: EncodableSpan): string {
  const { parentSpanContext: parent, status, name } = span
  const { droppedAttributesCount, droppedEventsCount, droppedLinksCount } = span
  const spanContext = span.spanContext()
  const shared = sharedOf(name)
  let content = idsOf(spanContext, span.idBytes)
  if (parent?.spanId) content += hex(4, parent.spanId)
  content += shared?.name ?? text(5, name)
  content += integer(6, span.kind + 1) + time(7, span.startTime) + time(8, span.endTime)
  content += shared ? sharedAttributesOf(shared, span.attributes) : presentAttributesOf(span.attributes)
  content += integer(10, droppedAttributesCount)
  for (const { time: at, name, attributes = {}, droppedAttributesCount = 0 } of span.events) {
    content += message(
      11,
      time(1, at) + eventNameOf(name) + attributesOf(3, attributes) + integer(4, droppedAttributesCount)
    )
  }
  // What is short is joined to what is short first: that is copied, and not yet another part of the text.
  let end = integer(12, droppedEventsCount)
  for (const { context, attributes = {}, droppedAttributesCount = 0 } of span.links) {
    const flags = flagsOf(6, context.traceFlags, context.isRemote)
    end += message(13, idsOf(context) + attributesOf(4, attributes) + integer(5, droppedAttributesCount) + flags)
  }
  end += integer(14, droppedLinksCount)
  end += message(15, (status.message ? text(2, status.message) : '') + integer(3, status.code))
  return content + end + flagsOf(16, spanContext.traceFlags, parent?.isRemote)
}

let lastFlags = 0
let lastFlagsField = fixed32(16, 0)

function flagsOf(field: number, traceFlags: number, isRemote = false): string {
  const flags = (traceFlags & 0xff) | HAS_IS_REMOTE | (isRemote ? IS_REMOTE : 0)
  if (field !== 16) return fixed32(field, flags)
  if (flags !== lastFlags) lastFlagsField = fixed32(16, flags)
  lastFlags = flags
  return lastFlagsField
}

function idsOf({ traceId, spanId, traceState }: SpanContext, bytes?: string): string {
  const state = traceState?.serialize()
  const ids = bytes ? message(1, bytes.slice(0, 16)) + message(2, bytes.slice(16)) : hex(1, traceId) + hex(2, spanId)
  return state ? ids + text(3, state) : ids
}

function time(field: number, [seconds, nanoseconds]: HrTime): string {
  // Nanoseconds since 1970 are no safe integer: the lower half is exact, and for the upper one near is enough.
  const low = (Math.imul(seconds, 1e9) + nanoseconds) >>> 0
  return fixed64(field, low, Math.round((seconds * 1e9 + nanoseconds - low) / 2 ** 32))
}

function sharedOf(name: string): Shared | undefined {
  const known = sharedByName.get(name)
  if (known || sharedByName.size >= MAX_NAMES || name.length > MAX_SHARED_TEXT) return known
  const shared = { name: text(5, name), keys: [], values: [], texts: [], uses: 0 }
  sharedByName.set(name, shared)
  return shared
}

function sharedAttributesOf(shared: Shared, attributes: Record<string, unknown>): string {
  const { keys, values, texts } = shared
  if (shared.uses-- === 0) return learn(shared, attributes)
  let index = 0
  let content: string | undefined
  for (const key in attributes) {
    const value = attributes[key]
    if (value === undefined) continue
    if (content === undefined) {
      if (keys[index] === key && values[index] === value) {
        index++
        continue
      }
      // What has changed once changes often.
      if (keys.length > index) keys.length = values.length = texts.length = index
      content = texts[index - 1] ?? ''
    }
    content += attributeOf(SPAN_ATTRIBUTES, key, value)
  }
  return content ?? texts[index - 1] ?? ''
}

function learn(shared: Shared, attributes: Record<string, unknown>): string {
  const { keys, values, texts } = shared
  keys.length = values.length = texts.length = 0
  shared.uses = SHARED_FOR
  let content = ''
  let isShared = true
  for (const key in attributes) {
    const value = attributes[key]
    if (value === undefined) continue
    content += attributeOf(SPAN_ATTRIBUTES, key, value)
    // Objects may have changed when they are seen again.
    isShared &&= typeof value !== 'object' && content.length <= MAX_SHARED_TEXT
    if (!isShared) continue
    keys.push(key)
    values.push(value)
    texts.push(inOnePiece(content))
  }
  return content
}

/** Without those that have no value. */
function presentAttributesOf(attributes: Record<string, unknown>): string {
  let content = ''
  for (const key in attributes)
    if (attributes[key] !== undefined) content += attributeOf(SPAN_ATTRIBUTES, key, attributes[key])
  return content
}

function attributesOf(field: number, attributes: Record<string, unknown>): string {
  let content = ''
  for (const key of Object.keys(attributes)) content += attributeOf(field, key, attributes[key])
  return content
}

function attributeOf(field: number, key: string, value: unknown): string {
  const { field: name, heads } = keyOf(key)
  if (field !== SPAN_ATTRIBUTES || typeof value !== 'string') return message(field, name + valueField(2, value))
  const content = utf8(value)
  const known = heads[content.length]
  if (known !== undefined) return known + content
  const head = headOf(name, content.length)
  if (content.length <= MAX_KEPT_LENGTH) heads[content.length] = inOnePiece(head)
  return head + content
}

function headOf(name: string, length: number): string {
  const any = lengthOf(1, length)
  const value = lengthOf(2, any.length + length) + any
  return lengthOf(SPAN_ATTRIBUTES, name.length + value.length + length) + name + value
}

function eventNameOf(name: string): string {
  const known = eventNames.get(name)
  if (known !== undefined) return known
  const field = text(2, name)
  if (eventNames.size < MAX_NAMES && name.length <= MAX_SHARED_TEXT) eventNames.set(name, inOnePiece(field))
  return field
}

function keyOf(name: string): Key {
  const known = keys.get(name)
  if (known !== undefined) return known
  const key = { field: text(1, name), heads: [] }
  if (keys.size < MAX_KEYS && name.length <= MAX_SHARED_TEXT) keys.set(name, key)
  return key
}

/** Not as the pieces it was joined from. */
function inOnePiece(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1')
}

function valueField(field: number, value: unknown): string {
  return message(field, anyOf(value))
}

function anyOf(value: unknown): string {
  if (typeof value === 'string') return text(1, value)
  if (typeof value === 'boolean') return integer(2, value ? 1 : 0)
  if (typeof value === 'number') return numberOf(value)
  if (value instanceof Uint8Array) return bytes(7, value)
  if (Array.isArray(value)) return message(5, value.map((item) => valueField(1, item)).join(''))
  return isRecord(value) ? message(6, attributesOf(1, value)) : ''
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

function numberOf(value: number): string {
  // All that an int64 holds, safe or not.
  const isInteger = Number.isInteger(value) && value >= -(2 ** 63) && value < 2 ** 63
  return isInteger ? integer(3, value) : double(4, value)
}
