import { hostname } from 'node:os'
import { isRecord } from '@fastify-observability/observation/internal'
import type { DestinationStream, Logger } from 'pino'
import { CANONICAL } from './fields.ts'
import type { Fields } from './safe.ts'

/** What a service has set of the pino that it gave to Fastify, where that differs from pino's and Fastify's defaults. */
export interface ExistingPino {
  readonly logger: Logger
  /** Where its lines go, `undefined` for standard output. */
  readonly stream: DestinationStream | undefined
  readonly serializers: Fields
  readonly messageKey: string
  readonly errorKey: string
  /** The fields of its base and of its bindings, as they stand in a line. */
  readonly bindings: Fields
  readonly hooks: Fields
  readonly mixin: ((fields: object, level: number, logger: Logger) => object) | undefined
  readonly mixinMergeStrategy: (fields: object, mixed: object) => object
  readonly formatLog: ((fields: object) => object) | undefined
  readonly formatLevel: ((label: string, level: number) => object) | undefined
  /** Whether it has a timestamp of its own, or none. */
  readonly hasTime: boolean
  /** Whether the canonical line is the same as without any of it. */
  readonly isPlain: boolean
  /** Settings that take level, time or message from where they stand in a line. */
  readonly moved: readonly string[]
}

/** The settings of a logger, `undefined` where it is no pino. */
export function readPino(logger: object): ExistingPino | undefined {
  if (!isPino(logger)) return undefined
  const get = (name: string): unknown => propertyOf(logger, name)
  const formatters = recordOf(get('formatters'))
  const hooks = recordOf(get('hooks'))
  const stream = get('stream')
  const serializers = ownSerializers(recordOf(get('serializers')))
  const existing = {
    logger,
    stream: isStream(stream) && !isStandardOutput(stream) ? stream : undefined,
    serializers,
    messageKey: String(get('messageKey') ?? 'msg'),
    errorKey: String(get('errorKey') ?? 'err'),
    bindings: ownBindings(String(get('chindings') ?? '')),
    hooks,
    mixin: functionOf<ExistingPino['mixin']>(get('mixin')),
    mixinMergeStrategy:
      functionOf<ExistingPino['mixinMergeStrategy']>(get('mixinMergeStrategy')) ??
      ((fields: object, mixed: object) => Object.assign(mixed, fields)),
    formatLog: functionOf<ExistingPino['formatLog']>(formatters.log),
    formatLevel: isMultiple(stream) ? numbered : ownLevelFormatter(formatters.level),
    hasTime: !isEpoch(get('time'))
  }
  const { messageKey, errorKey, mixin, formatLog, formatLevel, hasTime } = existing
  const settings = [
    mixin,
    formatLog,
    formatLevel,
    hooks.logMethod,
    hooks.streamWrite,
    get('msgPrefix'),
    get('nestedKey')
  ]
  const isPlain =
    settings.every((setting) => !setting) &&
    !hasTime &&
    !asksForMetadata(stream) &&
    messageKey === 'msg' &&
    errorKey === 'err' &&
    get('end') === '}\n' &&
    Reflect.ownKeys(recordOf(get('stringifiers'))).length === 0 &&
    !CANONICAL.some(({ name }) => name in serializers)
  const moving = {
    timestamp: hasTime,
    'formatters.level': formatLevel,
    nestedKey: get('nestedKey'),
    'hooks.streamWrite': hooks.streamWrite
  }
  const moved = Object.entries(moving).flatMap(([name, isSet]) => (isSet ? [name] : []))
  return { ...existing, isPlain, moved }
}

/** The names of what is set, as pino has them. */
export function settingsOf(existing: ExistingPino): string[] {
  const { logger, stream, serializers, messageKey, errorKey, bindings, hooks, mixin, formatLog, formatLevel } = existing
  const settings = {
    [`level "${logger.level}"`]: true,
    'stream or transport': stream,
    mixin,
    [`messageKey "${messageKey}"`]: messageKey !== 'msg',
    [`errorKey "${errorKey}"`]: errorKey !== 'err',
    'formatters.log': formatLog,
    'formatters.level': formatLevel,
    timestamp: existing.hasTime,
    ...named('serializers', serializers),
    ...named('base', bindings),
    ...named('hooks', hooks)
  }
  return Object.entries(settings).flatMap(([name, isSet]) => (isSet ? [`logger: ${name}`] : []))
}

function named(group: string, members: Fields): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(members).map(([name, value]) => [`${group}.${name}`, value !== undefined && value !== null])
  )
}

/**
 * Sets what pino keeps under a symbol. Fastify's pino may be another copy than ours, with symbols of its own; only their
 * descriptions are the same.
 */
export function setInternal(logger: object, name: string, value: unknown): void {
  const symbol = symbolOf(logger, name)
  if (symbol) Reflect.set(logger, symbol, value)
}

/** What pino keeps under a symbol. */
export function propertyOf(logger: object, name: string): unknown {
  const symbol = symbolOf(logger, name)
  return symbol && Reflect.get(logger, symbol)
}

/** The logger that sets the level of this one: itself, or one that it is a child of. */
export function levelOwner(logger: Logger): Logger {
  for (let target: object | null = logger; target !== null; target = Object.getPrototypeOf(target)) {
    const symbol = symbolOf(logger, 'levelVal')
    if (symbol && Object.hasOwn(target, symbol) && isPino(target)) return target
  }
  return logger
}

/** What pino calls a stream by that asks for more than the line. */
export const METADATA: unique symbol = Symbol.for('pino.metadata')
const INTERNALS = ['chindings', 'stream', 'serializers', 'formatters', 'hooks', 'lsCache', 'setLevel', 'time']

export function isPino(logger: object): logger is Logger {
  return INTERNALS.every((name) => symbolOf(logger, name) !== undefined)
}

/** Under which pino keeps something of the logger. */
export function symbolOf(logger: object, name: string): symbol | undefined {
  for (let target: object | null = logger; target !== null; target = Object.getPrototypeOf(target)) {
    const symbol = Object.getOwnPropertySymbols(target).find(({ description }) => description === `pino.${name}`)
    if (symbol) return symbol
  }
  return undefined
}

function recordOf(value: unknown): Fields {
  return isRecord(value) ? value : {}
}

function functionOf<Wanted>(value: unknown): Wanted | undefined
function functionOf(value: unknown): unknown {
  return typeof value === 'function' ? value : undefined
}

// Those that pino and Fastify bring: a line has its own form of errors, requests and replies.
const DEFAULT_SERIALIZERS = new Set(['errSerializer', 'asErrValue', 'asReqValue', 'asResValue'])

function ownSerializers(serializers: Fields): Fields {
  const own = Object.entries(serializers).filter(
    ([, serializer]) => typeof serializer === 'function' && !DEFAULT_SERIALIZERS.has(serializer.name)
  )
  return Object.fromEntries(own)
}

function ownBindings(json: string): Fields {
  const { pid, hostname: host, ...others }: Fields = JSON.parse(`{${json.slice(1)}}`)
  if (pid === process.pid && host === hostname()) return others
  return JSON.parse(`{${json.slice(1)}}`)
}

function numbered(_label: string, level: number): object {
  return { level }
}

function ownLevelFormatter(formatter: unknown): ExistingPino['formatLevel'] {
  const format = functionOf<NonNullable<ExistingPino['formatLevel']>>(formatter)
  return format && JSON.stringify(format('info', 30)) !== '{"level":30}' ? format : undefined
}

/** Whether it is pino's own time, in milliseconds. */
function isEpoch(time: unknown): boolean {
  if (typeof time !== 'function') return false
  const startedAt = Date.now()
  const [, written] = /^,"time":(\d+)$/.exec(String(time())) ?? []
  return written !== undefined && Number(written) >= startedAt && Number(written) <= Date.now()
}

function isStream(stream: unknown): stream is DestinationStream {
  return isRecord(stream) && typeof stream.write === 'function'
}

// A worker with several targets chooses among them by the number of the level.
function isMultiple(stream: unknown): boolean {
  const symbol = Symbol.for('pino.transport.usesMultistream')
  return isRecord(stream) && Reflect.get(stream, symbol) === true
}

/** Whether the stream asks for what a line says, as pino's own for several streams does, to choose by the level. */
export function asksForMetadata(stream: unknown): boolean {
  return isRecord(stream) && Reflect.get(stream, METADATA) === true
}

function isStandardOutput(stream: DestinationStream): boolean {
  return stream === process.stdout || ('fd' in stream && stream.fd === 1 && 'flushSync' in stream)
}
