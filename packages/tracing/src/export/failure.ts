import * as v from 'valibot'

const FIRST_BACKOFF_MS = 250
const MAX_BACKOFF_MS = 5_000

// By number. https://grpc.io/docs/guides/status-codes/
const GRPC_CODES = `
  OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED
  FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED`
  .trim()
  .split(/\s+/)
// https://opentelemetry.io/docs/specs/otlp/#failures
const TRANSIENT_GRPC = new Set([
  'CANCELLED',
  'DEADLINE_EXCEEDED',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNAVAILABLE',
  'DATA_LOSS'
])
const TRANSIENT_NETWORK = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EPIPE',
  'ETIMEDOUT'
])
// All that upstream leaves of an answer 429, 502, 503 or 504, or of none.
const TRANSIENT_MESSAGES = new Set([
  'Export failed with retryable status',
  'Request timed out',
  'Concurrent export limit reached'
])

const grpcErrorSchema = v.object({ code: v.number(), metadata: v.object({ get: v.function() }) })

/** Milliseconds, or `undefined` for what is permanent. */
export function waitBeforeRetry(error: unknown, retry: number): number | undefined {
  const grpc = grpcCode(error)
  const asked = retryInfoMs(error)
  const transient = grpc
    ? TRANSIENT_GRPC.has(grpc) || (grpc === 'RESOURCE_EXHAUSTED' && asked !== undefined)
    : error instanceof Error && (TRANSIENT_MESSAGES.has(error.message) || TRANSIENT_NETWORK.has(codeOf(error)))
  if (!transient) return undefined
  // Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
  const backoff = Math.random() * Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** retry)
  return (asked ?? 0) + backoff
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

function grpcCode(error: unknown): string | undefined {
  return v.is(grpcErrorSchema, error) ? GRPC_CODES[error.code] : undefined
}

/** What went wrong, in words of our own: a message of upstream or of the collector may repeat a header's value. */
export function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : ''
  const network = [...TRANSIENT_NETWORK].find((code) => message.includes(code))
  const grpc = grpcCode(error)
  if (grpc) return network ? `${grpc} (${network})` : grpc
  if (TRANSIENT_MESSAGES.has(message)) return message
  const code = codeOf(error)
  if (/^\d{3}$/.test(code)) return `HTTP ${code}`
  return /^[A-Z][A-Z_]+$/.test(code) ? code : 'the exporter failed'
}

/** The delay that a throttling collector asks for. @see https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-throttling */
function retryInfoMs(error: unknown): number | undefined {
  if (!v.is(grpcErrorSchema, error)) return undefined
  const values = error.metadata.get('grpc-status-details-bin')
  const details: unknown = Array.isArray(values) ? values[0] : undefined
  if (!(details instanceof Uint8Array)) return undefined
  for (const any of messages(details, 3)) {
    const [type] = messages(any, 1)
    if (!type || !Buffer.from(type).toString().endsWith('google.rpc.RetryInfo')) continue
    const [delay] = messages(any, 2).flatMap((info) => messages(info, 1))
    return delay ? 1_000 * number(delay, 1) + number(delay, 2) / 1e6 : 0
  }
  return undefined
}

function messages(bytes: Uint8Array, wanted: number): Uint8Array[] {
  return fields(bytes).flatMap(([field, value]) => (field === wanted && typeof value !== 'number' ? [value] : []))
}

function number(bytes: Uint8Array, wanted: number): number {
  return (
    fields(bytes).flatMap(([field, value]) => (field === wanted && typeof value === 'number' ? [value] : []))[0] ?? 0
  )
}

/** The varints and length-delimited fields of a protobuf message, up to anything else. */
function fields(bytes: Uint8Array): [field: number, value: number | Uint8Array][] {
  const found: [number, number | Uint8Array][] = []
  let at = 0
  function varint(): number {
    let value = 0
    for (let unit = 1; at < bytes.length; unit *= 128) {
      const byte = bytes[at++] ?? 0
      value += (byte % 128) * unit
      if (byte < 128) break
    }
    return value
  }
  while (at < bytes.length) {
    const key = varint()
    const value = varint()
    const wireType = key % 8
    if (wireType === 0) {
      found.push([Math.floor(key / 8), value])
    } else if (wireType === 2) {
      found.push([Math.floor(key / 8), bytes.subarray(at, at + value)])
      at += value
    } else {
      break
    }
  }
  return found
}
