import type { FastifyBaseLogger, FastifyRequest, RouteOptions } from 'fastify'
import type { Logger } from 'pino'
import { isOurs } from './context.ts'
import { isPino, levelOwner, symbolOf } from './existing-pino.ts'

// Fastify's label for the id of a request, which all lines have as `request_id`.
const LABEL = 'reqId'

type ChildLoggerFactory = NonNullable<RouteOptions['childLoggerFactory']>

interface ChildLoggers {
  /** Makes the logger of a request where the application has no factory of its own. */
  readonly standard: ChildLoggerFactory
  /** A factory of the application's that is given the suite's logger; `undefined` for Fastify's and for one of these. */
  wrap(factory: ChildLoggerFactory): ChildLoggerFactory | undefined
  /**
   * The logger of a request. For routes declared before the plugin it is still a child of the application's first one, with
   * what their factory has added to it.
   */
  adopt(request: FastifyRequest): Logger
}

/** The loggers of an app's requests: children of `root`, which has taken the place of `given`. */
export function childLoggers(root: Logger, given: FastifyBaseLogger): ChildLoggers {
  const wrapped = new WeakMap<ChildLoggerFactory, ChildLoggerFactory>()
  const own = new WeakSet<ChildLoggerFactory>()

  const standard: ChildLoggerFactory = (_logger, bindings, options) => {
    // A label that the application has chosen for the id of a request.
    if (!(LABEL in bindings)) return root.child(bindings, options)
    return options.level || options.serializers ? root.child({}, options) : root
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

  const bindings = isPino(given) ? symbolOf(given, 'chindings') : undefined
  const known = bindings && String(Reflect.get(given, bindings))

  function adopt({ log }: FastifyRequest): Logger {
    if (isOurs(log)) return log
    const made = copyOf(log)
    // Unlike Object.keys(), this makes nothing for each request.
    for (const name in log) if (!(name in root)) return withAdded(log, made)
    return made
  }

  /** What a factory has inherited or owns, such as methods of its own. */
  function withAdded(log: object, made: Logger): Logger {
    const logger = made === root ? root.child({}) : made
    for (const name in log) if (!(name in root)) Object.assign(logger, { [name]: Reflect.get(log, name) })
    return logger
  }

  /** The suite's logger with the bindings of a child of the application's first one. */
  function copyOf(log: object): Logger {
    if (!bindings || known === undefined) return root
    const text: unknown = Reflect.get(log, bindings)
    if (typeof text !== 'string' || !text.startsWith(known)) return root
    const further: Record<string, unknown> = JSON.parse(`{${text.slice(known.length + 1)}}`)
    const { [LABEL]: _, ...others } = further
    return Object.keys(others).length === 0 ? root : root.child(further)
  }

  return { standard, wrap, adopt }
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
