import { currentScope, runIn } from '@fastify-observability/observation/internal'
import { type Context, type ContextManager, ROOT_CONTEXT, type Span, trace } from '@opentelemetry/api'
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
    const scope = { observation: currentScope()?.observation, context }
    return runIn(scope, thisArg == null ? fn : fn.bind(thisArg), ...args)
  }
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

/** What `trace.setSpan` makes, without the copy of its parent that hardly any request needs. */
export class SpanFrame implements Context {
  private readonly parent: Context
  private readonly span: Span

  constructor(parent: Context, span: Span) {
    this.parent = parent
    this.span = span
  }

  getValue(key: symbol): unknown {
    return key === SPAN ? this.span : this.parent.getValue(key)
  }

  setValue(key: symbol, value: unknown): Context {
    return trace.setSpan(this.parent, this.span).setValue(key, value)
  }

  deleteValue(key: symbol): Context {
    return trace.setSpan(this.parent, this.span).deleteValue(key)
  }
}
