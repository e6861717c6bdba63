import { isRecord } from '@fastify-observability/observation/internal'
import { type ChildLoggerOptions, type DestinationStream, type Logger, type LoggerOptions, pino } from 'pino'
import type { Fields, Safe } from './safe.ts'

const SERIALIZERS = Symbol('fastify-observability.logging.serializers')

/**
 * A pino that only ever sees safe arguments, in its log methods and in the bindings of its children. Serializers get the
 * values as they were passed. What still throws inside pino, such as a `redact` of the user's, loses the line only.
 * @param lost is called for such a line.
 * @param written is called for the others.
 */
export function guardedPino(
  safe: Safe,
  { serializers, hooks, ...options }: LoggerOptions,
  stream: DestinationStream,
  lost: (error: unknown) => void = () => undefined,
  written: (logger: Logger, level: number, message: string | undefined) => void = () => undefined
): Logger {
  const logger = pino(
    {
      ...options,
      // Safe fields need no more of it; pino's own takes `err` apart again.
      serializers: { err: (fields) => fields },
      hooks: {
        ...hooks,
        logMethod(args, method, level) {
          try {
            const passed = safe.args(args, serializersOf(this))
            method.apply(this, passed)
            written(this, level, passed[1])
          } catch (error) {
            lost(error)
          }
        }
      }
    },
    stream
  )
  const { child, setBindings } = logger
  Object.assign(logger, {
    [SERIALIZERS]: serializers,
    // pino's formatters.bindings sees the bindings of the first logger only.
    child(bindings: unknown, childOptions?: ChildLoggerOptions | null): Logger {
      const { serializers: further, ...rest } = childOptions ?? {}
      const own = further ? withInherited(serializersOf(this), further) : serializersOf(this)
      const made: Logger = Reflect.apply(child, this, [safe.fields(bindings, own), rest])
      return further ? Object.assign(made, { [SERIALIZERS]: own }) : made
    },
    setBindings(bindings: unknown): void {
      Reflect.apply(setBindings, this, [safe.fields(bindings, serializersOf(this))])
    }
  })
  return logger
}

/** Fastify has the serializers of a route inherit those of its prefix. */
function withInherited(known: Fields | undefined, further: Fields): Fields {
  const all: Fields = { ...known }
  for (const key in further) all[key] = further[key]
  return all
}

function serializersOf(logger: object): Fields | undefined {
  const own: unknown = SERIALIZERS in logger ? logger[SERIALIZERS] : undefined
  return isRecord(own) ? own : undefined
}
