import { readFileSync } from 'node:fs'
import { ignoreVariable } from '@fastify-observability/observation/internal'
import { getStringFromEnv, parseKeyPairsIntoRecord } from '@opentelemetry/core'
import { choiceOf, numberFrom } from './environment.ts'

export type Signal = 'traces' | 'logs' | 'metrics'
export type Protocol = 'grpc' | 'http/protobuf'
/** Receives what is wrong with the environment and was ignored. */
export type Warn = (message: string) => void

/** Where the telemetry of one signal goes, and how. */
export interface Destination {
  signal: Signal
  protocol: Protocol
  /** Of a collector for gRPC, of the resource that is posted to for HTTP. */
  url: URL
  headers: Readonly<Record<string, string>>
  /** For each attempt. */
  timeoutMs: number
  compression: 'none' | 'gzip'
  tls: { ca?: Buffer; cert?: Buffer; key?: Buffer }
  /** The URL without secrets. */
  shown: string
  /** What start-up should say about the choice. */
  note: string | undefined
}

const TIMEOUT_MS = 10_000
const HTTP_PORT = '4318'
const DEFAULT_URLS: Record<Protocol, string> = {
  grpc: 'http://localhost:4317',
  'http/protobuf': `http://localhost:${HTTP_PORT}`
}
// What gRPC takes as text, and HTTP takes it too. https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests
const HEADER_NAME = /^(?!.*-bin$)[\w.-]+$/i
const HEADER_VALUE = /^[ -~]*$/

/**
 * @param endpoint a base URL that an option gives, before all variables.
 * @see https://opentelemetry.io/docs/specs/otel/protocol/exporter/
 */
export function destinationOf(signal: Signal, endpoint: string | undefined, warn: Warn): Destination {
  const own = urlFrom(`OTEL_EXPORTER_OTLP_${signal.toUpperCase()}_ENDPOINT`, warn)
  const given = endpoint ?? own ?? urlFrom('OTEL_EXPORTER_OTLP_ENDPOINT', warn)
  const asked = choiceOf(namesOf(signal, 'PROTOCOL'), ['grpc', 'http/protobuf'], warn)
  const isHttpPort = given !== undefined && new URL(given).port === HTTP_PORT
  const protocol = asked ?? (isHttpPort ? 'http/protobuf' : 'grpc')
  const base = given ?? DEFAULT_URLS[protocol]
  // The address of a signal is taken as it is.
  const url = new URL(protocol === 'grpc' || base === own ? base : requestUrl(base, signal))
  return {
    signal,
    protocol,
    url,
    headers: headersOf(signal, warn),
    timeoutMs: timeoutOf(signal, warn),
    compression: choiceOf(namesOf(signal, 'COMPRESSION'), ['gzip', 'none'], warn) ?? 'none',
    tls: tlsOf(signal, warn),
    shown: withoutSecrets(base),
    note:
      isHttpPort && !asked
        ? `port ${HTTP_PORT} means http/protobuf; OTEL_EXPORTER_OTLP_PROTOCOL=grpc overrides it`
        : undefined
  }
}

export function requestUrl(base: string, signal: Signal): string {
  const url = new URL(base)
  if (!url.pathname.endsWith(`/v1/${signal}`)) url.pathname = `${url.pathname.replace(/\/$/, '')}/v1/${signal}`
  return url.href
}

function namesOf(signal: Signal, name: string): [own: string, general: string] {
  return [`OTEL_EXPORTER_OTLP_${signal.toUpperCase()}_${name}`, `OTEL_EXPORTER_OTLP_${name}`]
}

function urlFrom(variable: string, warn: Warn): string | undefined {
  const value = getStringFromEnv(variable)
  if (value === undefined) return undefined
  if (/^https?:$/.test(URL.parse(value)?.protocol ?? '')) return value
  // A URL may hold a password.
  return ignoreVariable(variable, undefined, 'an http:// or https:// URL', warn)
}

function timeoutOf(signal: Signal, warn: Warn): number {
  return numberFrom(namesOf(signal, 'TIMEOUT'), 1, warn) ?? TIMEOUT_MS
}

function headersOf(signal: Signal, warn: Warn): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const variable of namesOf(signal, 'HEADERS').reverse()) {
    for (const [name, value] of Object.entries(parseKeyPairsIntoRecord(process.env[variable]))) {
      if (HEADER_NAME.test(name) && HEADER_VALUE.test(value)) headers[name.toLowerCase()] = value
      else ignoreVariable(variable, undefined, 'name=value pairs of printable ASCII', warn)
    }
  }
  return headers
}

function tlsOf(signal: Signal, warn: Warn): Destination['tls'] {
  const ca = pem(signal, 'CERTIFICATE', warn)
  const cert = pem(signal, 'CLIENT_CERTIFICATE', warn)
  const key = pem(signal, 'CLIENT_KEY', warn)
  return { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) }
}

function pem(signal: Signal, name: string, warn: Warn): Buffer | undefined {
  for (const variable of namesOf(signal, name)) {
    const file = getStringFromEnv(variable)
    if (file === undefined) continue
    try {
      return readFileSync(file)
    } catch {
      ignoreVariable(variable, file, 'a file that can be read', warn)
    }
  }
  return undefined
}

function withoutSecrets(endpoint: string): string {
  const { origin, pathname } = new URL(endpoint)
  return `${origin}${pathname.replace(/\/$/, '')}`
}
