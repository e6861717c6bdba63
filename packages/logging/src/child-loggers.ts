import { isRecord } from '@fastify-observability/observation/internal'
import type { FastifyBaseLogger, FastifyRequest, RouteOptions } from 'fastify'
import type { Logger } from 'pino'
import { isOurs, loose } from './context.ts'
import { isPino, levelOwner } from './existing-pino.ts'

// Fastify's label for the id of a request, which all lines have as `request_id`.
const LABEL = 'reqId'

type ChildLoggerFactory = NonNullable<RouteOptions['childLoggerFactory']>

interface ChildLoggers {
  /** Makes the logger of a request where the application has no factory of its own. */
  readonly standard: ChildLoggerFactory
  /** A factory of the application's that is given the suite's logger; `undefined` for Fastify's and for one of these. */
  wrap(factory: ChildLoggerFactory): ChildLoggerFactory | undefined
  /** The logger of a request. A factory may have made it of something else than the logger that it was given. */
  adopt(request: FastifyRequest): Logger
}

/** The loggers of an app's requests: children of `root`, which has taken the place of `given`. */
export function childLoggers(root: Logger, given: FastifyBaseLogger): ChildLoggers {
  const wrapped = new WeakMap<ChildLoggerFactory, ChildLoggerFactory>()
  const own = new WeakSet<ChildLoggerFactory>()

  // pino's hook for each child that is made, which may give it methods.
  const hasHook = isPino(given) && given.onChild.name !== 'noop'

  const standard: ChildLoggerFactory = (_logger, bindings, options) => {
    // A label that the application has chosen for the id of a request.
    if (!(LABEL in bindings)) return root.child(bindings, options)
    return hasHook || options.level || options.serializers ? root.child({}, options) : root
  }
  own.add(standard)

  function wrap(factory: ChildLoggerFactory): ChildLoggerFactory | undefined {
    if (own.has(factory)) return undefined
    if (factory.name === 'defaultChildLoggerFactory') return undefined
    const known = wrapped.get(factory)
    if (known) return known
    const made: ChildLoggerFactory = function (_logger, bindings, options, raw) {
      return factory.call(this, root, bindings, options, raw)
    }
    own.add(made)
    wrapped.set(factory, made)
    return made
  }

  // Routes declared before the plugin keep their factory, and Fastify hands it the first logger, which no other app has.
  const { child } = given
  function childOfRoot(this: unknown, bindings: object, options: object = {}): unknown {
    if (this !== given) return Reflect.apply(child, this, [bindings, options])
    // Nearly all requests have nothing else, and an object without the label would be one more for each.
    const isPlain = isRecord(bindings) && LABEL in bindings && hasOnly(bindings, LABEL) && hasOnly(options)
    if (isPlain && !hasHook) return loose(root)
    const { [LABEL]: _, ...others } = Object(bindings)
    return root.child(others, options)
  }
  // One from createLogger is the suite's already.
  if (given !== root) Reflect.set(given, 'child', childOfRoot)

  function adopt({ log }: FastifyRequest): Logger {
    if (isOurs(log)) return log
    const added = Object.entries(log).filter(([name]) => !(name in root))
    return added.length === 0 ? root : Object.assign(root.child({}), Object.fromEntries(added))
  }

  return { standard, wrap, adopt }
}

/** Whether there is no field, or none but this. */
function hasOnly(fields: object, name?: string): boolean {
  for (const key in fields) if (key !== name) return false
  return true
}

const followers = new WeakMap<Logger, Set<Logger>>()

/** Changes the level of `root` whenever that of the application's own logger is changed. @returns what ends it */
export function followLevel(given: FastifyBaseLogger, root: Logger): () => void {
  if (!isPino(given)) return () => undefined
  const owner = levelOwner(given)
  const following = followers.get(owner) ?? new Set()
  // One listener for all apps that share the logger.
  if (!followers.has(owner)) {
    owner.on('level-change', (level, _value, _previous, _previousValue, changed) => {
      if (changed === owner) for (const follower of following) follower.level = level
    })
  }
  followers.set(owner, following)
  following.add(root)
  return () => void following.delete(root)
}
