import { isRecord, type Redactor, type Registry, resolveService } from '@fastify-observability/observation/internal'
import type { FastifyInstance } from 'fastify'
import catalogue from './catalogue.json' with { type: 'json' }
import type { Recorder } from './recorder.ts'
import { withoutSecrets } from './view.ts'

/** An option of a part: what it is, and why. */
export interface OptionRow {
  readonly part: string
  readonly option: string
  readonly value: unknown
  /** `option`, `default`, or the variable that decides it. */
  readonly from: string
}

const OURS = /^(?:OTEL_|SENTRY_|LOG_|TRACE_|NODE_ENV$)/
// Their values are credentials, under names that nobody can list.
const CREDENTIALS = /HEADERS|DSN|dsn|headers/
const MAX_DEPTH = 4
/** As which the options of the umbrella itself are listed. */
const UMBRELLA = 'observability'

/** How the suite is set up, why it is so, and what looks wrong. */
export function setupOf(app: FastifyInstance, registry: Registry, { notices, bytes }: Recorder, given: object) {
  const { redactor, descriptions } = registry
  return {
    node: process.version,
    keptBytes: bytes,
    parts: partsOf(given),
    options: catalogue.map((entry) => rowOf(entry, given, redactor)),
    variables: Object.entries(process.env)
      .filter(([name]) => OURS.test(name))
      .map(([name, value]) => ({ name, value: shown(name, value, redactor) })),
    signals: signalsOf(app, registry),
    instrumentation: descriptions.instrumentation.map(({ what, names }) => ({ what, names: names.join(', ') })),
    kept: [...descriptions.kept, ...settingsOf(app)],
    notices: notices.map(({ timeMs, level, message, fields }) => ({
      time: new Date(timeMs).toISOString(),
      level,
      message,
      fields: withoutSecrets(fields, redactor)
    }))
  }
}

function partsOf(given: object): Record<string, boolean> {
  const parts = [...new Set(catalogue.map(({ part }) => part))].filter(
    (part) => part !== 'service' && part !== UMBRELLA
  )
  return Object.fromEntries(parts.map((part) => [part, Reflect.get(given, part) !== false]))
}

function rowOf(entry: (typeof catalogue)[number], given: object, redactor: Redactor): OptionRow {
  const { part, option, variables } = entry
  const options: unknown = part === UMBRELLA ? given : Reflect.get(given, part)
  // The umbrella has one for all parts.
  const common: unknown = option === 'keep' ? Reflect.get(given, option) : undefined
  const value = (isRecord(options) ? options[option] : undefined) ?? common
  if (value !== undefined) return { part, option, value: shown(option, value, redactor), from: 'option' }
  const variable = variables.find((name) => process.env[name])
  if (part === 'service') {
    const resolved: unknown = Reflect.get(resolveService(isRecord(options) ? { ...options } : {}), option)
    return { part, option, value: resolved ?? 'none', from: (resolved !== undefined && variable) || 'default' }
  }
  if (variable === undefined) return { part, option, value: lastResort(entry.default), from: 'default' }
  return { part, option, value: shown(variable, process.env[variable], redactor), from: variable }
}

/** What holds where no variable is set: the documentation names variables first. */
function lastResort(words: string): string {
  const [last = words] = words.split(/, (?:then|else) /).slice(-1)
  return /^OTEL_|^SENTRY_|^LOG_|^TRACE_/.test(last) ? 'none' : last.replace(/^'([^']*)'$/, '$1')
}

const SIGNALS = ['lines', 'spans', 'points', 'events'] as const

/** Where each signal goes: as the umbrella reports it, which knows why one goes nowhere. */
function signalsOf(app: FastifyInstance, { descriptions }: Registry): Record<string, unknown> {
  const umbrella: unknown = app.hasDecorator('observability') ? Reflect.get(app, 'observability') : undefined
  const report: unknown = isRecord(umbrella) && typeof umbrella.report === 'function' ? umbrella.report() : undefined
  return Object.fromEntries(
    SIGNALS.map((signal) => [signal, isRecord(report) ? report[signal] : (descriptions.of(signal) ?? { to: [] })])
  )
}

/** A value as it may be shown. */
function shown(name: string, value: unknown, redactor: Redactor): unknown {
  if (CREDENTIALS.test(name) || redactor.isSecretName(name)) return redactor.replacement
  return withoutSecrets(plain(value), redactor)
}

function plain(value: unknown, depth = 0): unknown {
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'bigint' || typeof value === 'symbol' || value instanceof RegExp) return String(value)
  if (typeof value === 'string') return withoutUser(value)
  if (typeof value !== 'object' || value === null) return value
  if (depth === MAX_DEPTH) return '…'
  if (Array.isArray(value)) return value.map((item) => plain(item, depth + 1))
  const prototype = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) return `a ${value.constructor.name || 'n object'}`
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner, depth + 1)]))
}

/** A URL without the user in it, who may be a key. */
function withoutUser(text: string): string {
  const url = text.includes('@') ? URL.parse(text) : null
  if (!url || (url.username === '' && url.password === '')) return text
  url.username = url.password = ''
  return String(url)
}

const FASTIFY_DEFAULTS = {
  requestIdHeader: false,
  requestIdLogLabel: 'reqId',
  bodyLimit: 1_048_576,
  connectionTimeout: 0,
  http2: false
} as const

/** What the application has set of Fastify, which stays. */
function settingsOf({ initialConfig }: FastifyInstance): string[] {
  return Object.entries(FASTIFY_DEFAULTS).flatMap(([name, usual]) => {
    const value: unknown = Reflect.get(initialConfig, name)
    return value === undefined || value === usual ? [] : [`Fastify: ${name} ${JSON.stringify(value)}`]
  })
}
