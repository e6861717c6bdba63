import { tracingChannel } from 'node:diagnostics_channel'
import { attempt, bindScope, type Scope, thrownText } from '@fastify-observability/observation/internal'
import {
  type Attributes,
  context,
  type Span,
  SpanKind,
  SpanStatusCode,
  type TracerProvider,
  trace
} from '@opentelemetry/api'
import { countCall, SYSTEM, wasInstrumented } from '../instrumentation/database-calls.ts'
import { hideErrorText } from '../instrumentation/error-hiding.ts'
import { observingStarts } from '../instrumentation/started-spans.ts'
import { SCOPE, VERSION } from '../span.ts'

/** What a client publishes of a call: the same object at each moment of it. */
export type Message = Readonly<Record<string, unknown>>

/** What a span says of a call. */
export interface Description {
  name: string
  attributes: Attributes
}

type Moment = 'start' | 'end' | 'asyncStart'

/** The calls that clients publish, and their spans. What goes wrong here is reported, and the call goes on. */
export interface Calls {
  /**
   * Starts the span of a call, and ends it when the call does. A call outside of all spans has none unless it `mayBeRoot`;
   * nor has one that an instrumentation has made a span of.
   */
  begin(message: Message, describe: (message: Message) => Description, mayBeRoot?: boolean): Span | undefined
  /** Gives each call of a channel a span. */
  track(channel: string, describe: (message: Message) => Description, mayBeRoot?: boolean): void
  /** Ends the spans of a channel's calls that have been begun otherwise. */
  endWithCall(channel: string): void
  /** Calls the listener at a moment of each call. */
  on(channel: string, moment: Moment, listener: (message: Message) => void): void
  /** Has what follows upon a moment of each call do so in another scope, `undefined` for none. */
  bind(channel: string, moment: Moment, scopeOf: (message: Message) => Scope | undefined): void
  /** Whether an instrumentation sees a copy of the package. */
  isInstrumented(name: string): boolean
  close(): void
}

export interface CallsOptions extends Pick<Calls, 'isInstrumented'> {
  provider: TracerProvider
  report(error: unknown): void
}

/** @see https://nodejs.org/api/diagnostics_channel.html#class-tracingchannel */
export function createCalls({ provider, isInstrumented, report }: CallsOptions): Calls {
  const tracer = observingStarts(provider, [hideErrorText, countCall]).getTracer(SCOPE, VERSION)
  const spans = new WeakMap<Message, Span>()
  const closers: (() => void)[] = []

  function begin(message: Message, describe: (message: Message) => Description, mayBeRoot = false): Span | undefined {
    if (!mayBeRoot && trace.getSpan(context.active()) === undefined) return undefined
    const { name, attributes } = describe(message)
    if (wasInstrumented(attributes[SYSTEM] ?? '')) return undefined
    const span = tracer.startSpan(name, { kind: SpanKind.CLIENT, attributes })
    spans.set(message, span)
    return span
  }

  function finish(message: Message): void {
    const span = spans.get(message)
    if (!span) return
    spans.delete(message)
    if (message.error !== undefined) {
      const { code, name } = Object(message.error)
      span.recordException({ name: thrownText(code ?? name ?? typeof message.error) })
      span.setStatus({ code: SpanStatusCode.ERROR })
    }
    span.end()
  }

  function on(channel: string, moment: Moment, listener: (message: Message) => void): void {
    const published = tracingChannel<unknown, Message>(channel)[moment]
    const receive = (message: unknown): void => attempt(() => listener(Object(message)), report)
    published.subscribe(receive)
    closers.push(() => published.unsubscribe(receive))
  }

  function endWithCall(channel: string): void {
    // What a client throws at once never comes to its asynchronous end.
    on(channel, 'end', (message) => {
      if ('error' in message) finish(message)
    })
    on(channel, 'asyncStart', finish)
  }

  return {
    begin,
    track(channel, describe, mayBeRoot) {
      on(channel, 'start', (message) => void begin(message, describe, mayBeRoot))
      endWithCall(channel)
    },
    endWithCall,
    on,
    bind(channel, moment, scopeOf) {
      const unbind = bindScope(tracingChannel<unknown, Message>(channel)[moment], (message) => {
        let scope: Scope | undefined
        attempt(() => {
          scope = scopeOf(message)
        }, report)
        return scope
      })
      closers.push(unbind)
    },
    isInstrumented,
    close() {
      for (const close of closers) close()
    }
  }
}

/** What a message says of the server. */
export function serverOf({ serverAddress, serverPort }: Message): Attributes {
  return {
    'server.address': serverAddress === undefined ? undefined : String(serverAddress),
    'server.port': serverPort === undefined ? undefined : Number(serverPort)
  }
}
