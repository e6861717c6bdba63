import {
  type Context,
  createContextKey,
  type SpanContext,
  type TextMapPropagator,
  TraceFlags,
  type TraceState,
  trace
} from '@opentelemetry/api'
import { isTracingSuppressed } from '@opentelemetry/core'

const TRACEPARENT_HEADER = 'traceparent'
const TRACESTATE_HEADER = 'tracestate'
const RANDOM_FLAG = 0x02
const MAX_MEMBERS = 32
const MAX_TRACESTATE_LENGTH = 512
const LONG_MEMBER_LENGTH = 128

// Version 00 ends with its flags, version ff is no version, later ones may add fields. No comma: that is two headers.
const TRACEPARENT =
  /^[\t ]*(?!ff|00.{53}-)[\da-f]{2}-(?!0{32})[\da-f]{32}-(?!0{16})[\da-f]{16}-[\da-f]{2}(?:[\t ]*|-[\t -+\--~]*)$/
// No white space but tabs and spaces, so that trimEnd() removes what HTTP calls optional white space, and no more.
const HEADER_TEXT = /^[\t -~]*$/
// Empty members are what joining empty headers leaves, so they do not count.
const NON_EMPTY_MEMBERS = /[^\t ,][^,]*/g
const KEY = /^[a-z\d][a-z\d_\-*/@]{0,255}$/
const VALUE = /^[ -+\--<>-~]{0,255}[!-+\--<>-~]$/

// The SDK gives children no flag but sampled, so the trace that came with the random flag is noted beside them.
const RANDOM_TRACE = createContextKey('trace id received with the random flag')

/**
 * Carries span contexts in `traceparent` and `tracestate`, strictly as W3C Trace Context Level 2 has it: what is
 * malformed is dropped, never repaired. Needs a getter that finds headers in any case, as Node's lower-cased ones are.
 * @see https://www.w3.org/TR/trace-context-2/
 */
export function strictTraceContext(): TextMapPropagator<unknown> {
  return {
    fields: () => [TRACEPARENT_HEADER, TRACESTATE_HEADER],
    extract(context, carrier, getter) {
      const [traceparent, ...others] = fieldValues(getter.get(carrier, TRACEPARENT_HEADER))
      const parent = others.length === 0 ? parseTraceparent(traceparent) : undefined
      if (!parent) return context
      const members = parseTracestate(fieldValues(getter.get(carrier, TRACESTATE_HEADER)).join(','))
      const random = (parent.traceFlags & RANDOM_FLAG) !== 0
      return trace.setSpanContext(context.setValue(RANDOM_TRACE, random ? parent.traceId : undefined), {
        ...parent,
        ...(members && { traceState: new StrictTraceState(members) })
      })
    },
    inject(context, carrier, setter) {
      const span = trace.getSpanContext(context)
      if (!span || isTracingSuppressed(context)) return
      const { traceId, spanId, traceFlags, traceState } = span
      const random = context.getValue(RANDOM_TRACE) === traceId ? RANDOM_FLAG : 0
      const flags = (traceFlags & (TraceFlags.SAMPLED | RANDOM_FLAG)) | random
      const traceparent = `00-${traceId}-${spanId}-0${flags}`
      if (!TRACEPARENT.test(traceparent)) return
      setter.set(carrier, TRACEPARENT_HEADER, traceparent)
      // A sampler may have put a trace state of another make here.
      const members = traceState && parseTracestate(traceState.serialize())
      const tracestate = members && withinLimit(membersOf(members))
      if (tracestate) setter.set(carrier, TRACESTATE_HEADER, tracestate)
    }
  }
}

/**
 * The trace state of a span that must not be propagated, which keeps what the sampler or the parent has set.
 */
export function withheld(parent: Context, traceState = trace.getSpanContext(parent)?.traceState): TraceState {
  return new WithheldTraceState(traceState)
}

/** The trace state of a span that may be propagated although the one around it may not. */
export function released(
  parent: Context,
  traceState = trace.getSpanContext(parent)?.traceState
): TraceState | undefined {
  return traceState instanceof WithheldTraceState ? traceState.inner : traceState
}

/** Sends what the propagators send, unless the span is withheld. What they throw must not reach the caller. */
export function sendingOnlyWhereAllowed(
  propagator: TextMapPropagator<unknown>,
  report: (error: unknown) => void
): TextMapPropagator<unknown> {
  return {
    fields: () => propagator.fields(),
    extract(context, carrier, getter) {
      try {
        return propagator.extract(context, carrier, getter)
      } catch (error) {
        report(error)
        return context
      }
    },
    inject(context, carrier, setter) {
      if (trace.getSpanContext(context)?.traceState instanceof WithheldTraceState) return
      try {
        propagator.inject(context, carrier, setter)
      } catch (error) {
        report(error)
      }
    }
  }
}

/** The values of a header's fields in their order; none at all when one of them is not text. */
function fieldValues(header: unknown): string[] {
  const values: unknown[] = Array.isArray(header) ? header : [header]
  return values.every((value) => typeof value === 'string') ? values : []
}

function parseTraceparent(header: string | undefined): SpanContext | undefined {
  if (header === undefined || !TRACEPARENT.test(header)) return undefined
  const traceparent = header.trim()
  // Of a later version only the sampled bit is known to mean what it means here.
  const known = traceparent.startsWith('00') ? TraceFlags.SAMPLED | RANDOM_FLAG : TraceFlags.SAMPLED
  return {
    traceId: traceparent.slice(3, 35),
    spanId: traceparent.slice(36, 52),
    traceFlags: Number.parseInt(traceparent.slice(53, 55), 16) & known,
    isRemote: true
  }
}

/** The members from left to right, `undefined` when there are none or anything about the list is invalid. */
function parseTracestate(header: string): Map<string, string> | undefined {
  if (!HEADER_TEXT.test(header)) return undefined
  const list = header.match(NON_EMPTY_MEMBERS) ?? []
  if (list.length === 0 || list.length > MAX_MEMBERS) return undefined
  const members = new Map<string, string>()
  for (const member of list) {
    const [key = '', value = '', excess] = member.trimEnd().split('=')
    if (excess !== undefined || !isMember(key, value)) return undefined
    // The list must be sent on although a key occurs twice, and the second may be dropped. https://www.w3.org/TR/trace-context-2/#tracestate-header-field-values
    if (!members.has(key)) members.set(key, value)
  }
  return members
}

function isMember(key: string, value: string): boolean {
  return KEY.test(key) && VALUE.test(value)
}

function membersOf(members: ReadonlyMap<string, string>): string[] {
  return Array.from(members, ([key, value]) => `${key}=${value}`)
}

/** Drops whole members until the list fits: the long ones first, then any, each time the right-most. */
function withinLimit(members: string[]): string {
  let length = members.join(',').length
  while (length > MAX_TRACESTATE_LENGTH) {
    // Where no member is long the index is -1, which is the last one.
    const [dropped = ''] = members.splice(
      members.findLastIndex((member) => member.length > LONG_MEMBER_LENGTH),
      1
    )
    length -= dropped.length + 1
  }
  return members.join(',')
}

/** Immutable members of a `tracestate`; an invalid key or value is not set. */
class StrictTraceState implements TraceState {
  readonly #members: ReadonlyMap<string, string>

  constructor(members: ReadonlyMap<string, string>) {
    this.#members = members
  }

  get(key: string): string | undefined {
    return this.#members.get(key)
  }

  set(key: string, value: string): TraceState {
    if (!isMember(key, value)) return this
    const others = [...this.#members].filter(([other]) => other !== key)
    return new StrictTraceState(new Map([[key, value], ...others.slice(0, MAX_MEMBERS - 1)]))
  }

  unset(key: string): TraceState {
    return new StrictTraceState(new Map([...this.#members].filter(([other]) => other !== key)))
  }

  serialize(): string {
    return membersOf(this.#members).join(',')
  }
}

class WithheldTraceState implements TraceState {
  readonly #inner: TraceState

  constructor(inner: TraceState = new StrictTraceState(new Map())) {
    this.#inner = inner
  }

  get(key: string): string | undefined {
    return this.#inner.get(key)
  }

  set(key: string, value: string): TraceState {
    return new WithheldTraceState(this.#inner.set(key, value))
  }

  get inner(): TraceState {
    return this.#inner
  }

  unset(key: string): TraceState {
    return new WithheldTraceState(this.#inner.unset(key))
  }

  serialize(): string {
    return this.#inner.serialize()
  }
}
