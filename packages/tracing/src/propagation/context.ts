import {
  currentScope,
  JobObservation,
  RequestObservation,
  runIn,
  type Scope
} from '@fastify-observability/observation/internal'
import { type Context, type ContextManager, createContextKey, ROOT_CONTEXT, type Span, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'

/**
 * Upstream's context manager on the storage that the observation of a request runs in already: a request's own context
 * then costs nothing, because it is found through its observation.
 */
export function sharedContextManager(): ContextManager {
  return new SharedContextManager()
}

class SharedContextManager extends AsyncLocalStorageContextManager {
  override active(): Context {
    return currentScope()?.context ?? ROOT_CONTEXT
  }

  override with<Args extends unknown[], Fn extends (...args: Args) => ReturnType<Fn>>(
    context: Context,
    fn: Fn,
    thisArg?: ThisParameterType<Fn>,
    ...args: Args
  ): ReturnType<Fn> {
    return runIn(scopeOf(context), thisArg == null ? fn : fn.bind(thisArg), ...args)
  }
}

// Whatever OpenTelemetry binds to a context (callbacks of a database client, emitters, jobs) belongs to its request too.
export const REQUEST: symbol = createContextKey('fastify-observability.request')

/** The context as that of a request or job, also for what is derived from it. */
export function ofRequest(context: Context, observation: RequestObservation | JobObservation): Context {
  return context.setValue(REQUEST, observation)
}

function scopeOf(context: Context): Scope {
  const observation = context.getValue(REQUEST)
  const isRequest = observation instanceof RequestObservation
  if (!isRequest && !(observation instanceof JobObservation))
    return { observation: currentScope()?.observation, context }
  if (observation.context === context) return observation
  if (isRequest) observation.hasInnerContexts = true
  return { observation, context }
}

// The API keeps the key to itself, and asks any context for it.
function spanKeyOf(): symbol | undefined {
  let key: symbol | undefined
  const probe: Context = {
    getValue(asked) {
      key = asked
      return undefined
    },
    setValue: () => probe,
    deleteValue: () => probe
  }
  trace.getSpan(probe)
  return key
}

const SPAN = spanKeyOf()

/** What `trace.setSpan` and `ofRequest` make, without the copy of its parent that hardly any request needs. */
export class SpanFrame implements Context {
  private readonly parent: Context
  private readonly span: Span
  private readonly observation: RequestObservation
  private full: Context | undefined

  constructor(parent: Context, span: Span, observation: RequestObservation) {
    this.parent = parent
    this.span = span
    this.observation = observation
  }

  getValue(key: symbol): unknown {
    if (key === SPAN) return this.span
    return key === REQUEST ? this.observation : this.parent.getValue(key)
  }

  setValue(key: symbol, value: unknown): Context {
    return this.copy().setValue(key, value)
  }

  deleteValue(key: symbol): Context {
    return this.copy().deleteValue(key)
  }

  private copy(): Context {
    this.full ??= ofRequest(trace.setSpan(this.parent, this.span), this.observation)
    return this.full
  }
}
