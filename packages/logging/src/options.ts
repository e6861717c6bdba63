import {
  type KeepOptions,
  keepSchema,
  parseEnv,
  parseOptions,
  type ServiceOptions,
  serviceSchema
} from '@fastify-observability/observation/internal'
import type { FastifyRequest } from 'fastify'
import type { DestinationStream } from 'pino'
import * as v from 'valibot'
import type { FileOptions } from './file.ts'

/** Options of the logging part. */
export interface LoggingOptions {
  /** Who the telemetry is about. @default what the environment and package.json say */
  service?: ServiceOptions
  /** @default LOG_LEVEL, then the level of the logger Fastify was created with, then 'info' */
  level?: Level
  /** @default LOG_FORMAT, then 'pretty' in a terminal and 'json' elsewhere */
  format?: Format
  /**
   * Writes each line on standard output before the call returns, for platforms that freeze or end the process at any
   * moment. Costs each line a system call. @default false
   */
  sync?: boolean
  /** Where lines go instead of standard output: anything with `write(line)`. */
  stream?: DestinationStream
  /** A rotated file beside standard output, always JSON: its path, or more about it. @default LOG_FILE, else none */
  file?: string | FileOptions
  /** Sends lines over OTLP too, to OTEL_EXPORTER_OTLP_(LOGS_)ENDPOINT. @default OTEL_LOGS_EXPORTER=otlp */
  otlp?: boolean
  /** Further names of fields, headers and query parameters whose values are replaced, case-insensitive. */
  redact?: string[]
  /** Replaces redaction by name: only the fields named here keep their values. */
  allow?: string[]
  /** A level for one request's `request.log` and `logger()`; `undefined` leaves the app's. */
  levelFor?: (request: FastifyRequest) => Level | undefined
  /**
   * Writes the lines below the level, too, of requests that failed or were slow: they are held until the request has ended.
   * `true` for those that failed. @default false
   */
  keep?: KeepOptions | boolean
}

/** A level of lines, or `silent`. */
export type Level = (typeof LEVELS)[number]
/** How lines are written. */
export type Format = (typeof FORMATS)[number]

export const NAME = '@fastify-observability/logging'
const LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const
const FORMATS = ['json', 'pretty', 'pino-pretty'] as const
export const levelSchema = v.picklist(LEVELS, `one of ${LEVELS.join(', ')}`)
const format = v.picklist(FORMATS, `one of ${FORMATS.join(', ')}`)
const NAMES_RULE = 'a list of names'
const SIZE_RULE = 'a size like "100MB"'
const FILE_RULE = 'a path or { path, maxSize, maxAgeDays, maxTotalSize, compress }'
const names = v.optional(v.array(v.string(NAMES_RULE), NAMES_RULE))
const size = v.optional(v.pipe(v.string(SIZE_RULE), v.regex(/^[1-9]\d*(B|KB|MB|GB)$/, SIZE_RULE)))
const path = v.pipe(v.string('a path'), v.minLength(1, 'a path'))
const file = v.strictObject({
  path,
  maxSize: size,
  maxAgeDays: v.optional(v.pipe(v.number('a positive number'), v.gtValue(0, 'a positive number'))),
  maxTotalSize: size,
  compress: v.optional(v.union([v.literal('gzip'), v.literal(false)], '"gzip" or false'))
})

const schema = v.strictObject({
  service: serviceSchema,
  level: v.optional(levelSchema),
  format: v.optional(format),
  sync: v.optional(v.boolean()),
  stream: v.optional(v.custom<DestinationStream>(isStream, 'an object with a write function')),
  file: v.optional(v.union([path, file], FILE_RULE)),
  otlp: v.optional(v.boolean()),
  redact: names,
  allow: names,
  keep: keepSchema,
  levelFor: v.optional(v.custom<NonNullable<LoggingOptions['levelFor']>>((f) => typeof f === 'function', 'a function'))
})
// Platforms set it for services of all languages.
const levelInAnyCase = v.pipe(
  v.string(),
  v.transform((level) => level.toLowerCase().replace(/^warning$/, 'warn')),
  levelSchema
)
const envSchema = v.object({
  LOG_LEVEL: v.optional(levelInAnyCase),
  LOG_FORMAT: v.optional(format),
  LOG_FILE: v.optional(v.string())
})

function isStream(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'write' in value && typeof value.write === 'function'
}

/** Options, completed from the environment. */
export function resolveOptions(
  options: LoggingOptions,
  warn: (message: string) => void,
  variables = process.env
): LoggingOptions {
  const parsed = parseOptions<LoggingOptions>(NAME, schema, options)
  const env = parseEnv(envSchema, warn, variables)
  return {
    ...parsed,
    level: parsed.level ?? env.LOG_LEVEL,
    format: parsed.format ?? env.LOG_FORMAT,
    file: parsed.file ?? env.LOG_FILE
  }
}
