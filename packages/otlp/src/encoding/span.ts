import type { HrTime, SpanContext } from '@opentelemetry/api'
import {
  attributesOf,
  type ChainedAttribute,
  inOnePiece,
  presentAttributesOf,
  spanAttribute,
  spanAttributes
} from './attributes.ts'
import type { Resource, Scope } from './batch.ts'
import { fixed32, fixed64, hex, integer, message, text } from './protobuf.ts'

/** A span that has ended, as the SDK's are, of its 2.x and of its 3.x. */
export interface EncodableSpan {
  /** Of few values, such as `GET /orders/:id`. */
  readonly name: string
  /** As OpenTelemetry's `SpanKind` numbers it. */
  readonly kind: number
  /** Seconds since 1970, and nanoseconds. */
  readonly startTime: HrTime
  /** Seconds since 1970, and nanoseconds. */
  readonly endTime: HrTime
  /** @default none: the span is the root of its trace */
  readonly parentSpanContext?: SpanContext | undefined
  /** By name. */
  readonly attributes: Readonly<Record<string, unknown>>
  /** What happened while it went on. */
  readonly events: readonly SpanEvent[]
  /** Spans of other traces that it has to do with. */
  readonly links: readonly SpanLink[]
  /** Whether it has failed. */
  readonly status: {
    /** As OpenTelemetry's `SpanStatusCode` numbers it. */
    readonly code: number
    /** Why, for one that has. @default '' */
    readonly message?: string | undefined
  }
  /** How many attributes were left out. */
  readonly droppedAttributesCount: number
  /** How many events were left out. */
  readonly droppedEventsCount: number
  /** How many links were left out. */
  readonly droppedLinksCount: number
  /** Who it is about. */
  readonly resource: Resource
  /** What made it. */
  readonly instrumentationScope: Scope
  /** Its ids and flags. */
  spanContext(): SpanContext
  /** Its ids as the bytes they stand for, which saves reading their digits: sixteen characters of the trace's, eight of its own. */
  readonly idBytes?: string | undefined
  /** Its attributes, of which some may have no value; leaving those out takes a copy. */
  readonly sparse?: Readonly<Record<string, unknown>>
  /** Attributes beside those. */
  readonly added?:
    | {
        /** The first of them, which has the next one. */
        readonly first: ChainedAttribute | undefined
      }
    | undefined
}

interface SpanEvent {
  readonly name: string
  readonly time: HrTime
  readonly attributes?: Readonly<Record<string, unknown>> | undefined
  readonly droppedAttributesCount?: number | undefined
}

interface SpanLink {
  readonly context: SpanContext
  readonly attributes?: Readonly<Record<string, unknown>> | undefined
  readonly droppedAttributesCount?: number | undefined
}

const HAS_IS_REMOTE = 0x100
const IS_REMOTE = 0x200

const MAX_NAMES = 512
const MAX_SHARED_TEXT = 1_024
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

/** The fields of the names of events. */
const eventNames = new Map<string, string>()

/**
 * The content of a Span message, in the same bytes as OpenTelemetry's own serializer makes. Throws what the objects of the
 * span throw when they are read.
 * @see https://github.com/open-telemetry/opentelemetry-proto/blob/v1.9.0/opentelemetry/proto/trace/v1/trace.proto
 */
export function encodeSpan(span: EncodableSpan): string {
  const { parentSpanContext: parent, status, name } = span
  const { droppedAttributesCount, droppedEventsCount, droppedLinksCount } = span
  const attributes = span.sparse ?? span.attributes
  const spanContext = span.spanContext()
  const shared = sharedOf(name)
  let content = idsOf(spanContext, span.idBytes)
  if (parent?.spanId) content += hex(4, parent.spanId)
  content += shared?.name ?? text(5, name)
  content += integer(6, span.kind + 1) + time(7, span.startTime) + time(8, span.endTime)
  content += shared ? sharedAttributesOf(shared, attributes) : presentAttributesOf(attributes)
  if (span.added !== undefined) content += spanAttributes(span.added.first)
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

function sharedAttributesOf(shared: Shared, attributes: Readonly<Record<string, unknown>>): string {
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
    content += spanAttribute(key, value)
  }
  return content ?? texts[index - 1] ?? ''
}

function learn(shared: Shared, attributes: Readonly<Record<string, unknown>>): string {
  const { keys, values, texts } = shared
  keys.length = values.length = texts.length = 0
  shared.uses = SHARED_FOR
  let content = ''
  let isShared = true
  for (const key in attributes) {
    const value = attributes[key]
    if (value === undefined) continue
    content += spanAttribute(key, value)
    // Objects may have changed when they are seen again.
    isShared &&= typeof value !== 'object' && content.length <= MAX_SHARED_TEXT
    if (!isShared) continue
    keys.push(key)
    values.push(value)
    texts.push(inOnePiece(content))
  }
  return content
}

function eventNameOf(name: string): string {
  const known = eventNames.get(name)
  if (known !== undefined) return known
  const field = text(2, name)
  if (eventNames.size < MAX_NAMES && name.length <= MAX_SHARED_TEXT) eventNames.set(name, inOnePiece(field))
  return field
}
