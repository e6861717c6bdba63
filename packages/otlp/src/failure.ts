/** Why an attempt was not accepted. */
export interface Failure {
  /** In words of our own: a message of a library or of the collector may repeat a header's value. */
  reason: string
  /** Whether another attempt may succeed. */
  isTransient: boolean
  /** The request was larger than the collector takes. */
  isTooLarge: boolean
  /** How long the collector asks to be left alone. */
  waitMs: number
}

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
// https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes
const TRANSIENT_HTTP = new Set([429, 502, 503, 504])
const PAYLOAD_TOO_LARGE = 413
const NETWORK_ERRORS = [
  'ECONNREFUSED',
  'ECONNRESET',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EPIPE',
  'ETIMEDOUT'
]
// RESOURCE_EXHAUSTED also means a quota. The words are those of gRPC for Go, JavaScript, Java, C++ and Rust.
const TOO_LARGE = /larger than max|exceeds? (?:the )?max|message length too large|too large|size limit/i

/** Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ */
export function waitBeforeRetry({ waitMs }: Failure, retry: number): number {
  return waitMs + Math.random() * Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** retry)
}

/** @param status a google.rpc.Status, if the answer brought one. */
export function grpcFailure(code: number, details: string, status: Uint8Array | undefined): Failure {
  const name = GRPC_CODES[code] ?? 'UNKNOWN'
  const network = NETWORK_ERRORS.find((error) => details.includes(error))
  const asked = status && retryInfoMs(status)
  const isExhausted = name === 'RESOURCE_EXHAUSTED'
  return {
    reason: network ? `${name} (${network})` : name,
    isTransient: TRANSIENT_GRPC.has(name) || (isExhausted && asked !== undefined),
    isTooLarge: isExhausted && asked === undefined && TOO_LARGE.test(details),
    waitMs: asked ?? 0
  }
}

export function httpFailure(status: number, retryAfter: string | undefined): Failure {
  return {
    reason: `HTTP ${status}`,
    isTransient: TRANSIENT_HTTP.has(status),
    isTooLarge: status === PAYLOAD_TOO_LARGE,
    waitMs: TRANSIENT_HTTP.has(status) ? retryAfterMs(retryAfter) : 0
  }
}

/**
 * What kept an answer from coming. Whatever it was, such as a certificate that has expired, another attempt may get one.
 * @see https://opentelemetry.io/docs/specs/otlp/#otlphttp-connection
 */
export function networkFailure(error: unknown): Failure {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return {
    reason: /^[A-Z][A-Z\d_]+$/.test(code) ? code : 'the request failed',
    isTransient: true,
    isTooLarge: false,
    waitMs: 0
  }
}

export const TIMED_OUT: Failure = { reason: 'timed out', isTransient: true, isTooLarge: false, waitMs: 0 }

/** Seconds or a date. @see https://httpwg.org/specs/rfc9110.html#field.retry-after */
function retryAfterMs(value = ''): number {
  const ms = /^\d+$/.test(value) ? 1_000 * Number(value) : Date.parse(value) - Date.now()
  return Number.isNaN(ms) ? 0 : Math.max(ms, 0)
}

/** The delay that a throttling collector asks for. @see https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-throttling */
function retryInfoMs(status: Uint8Array): number | undefined {
  for (const any of messages(status, 3)) {
    const [type] = messages(any, 1)
    if (!type || !Buffer.from(type).toString().endsWith('google.rpc.RetryInfo')) continue
    const [delay] = messages(any, 2).flatMap((info) => messages(info, 1))
    return delay ? 1_000 * number(delay, 1) + number(delay, 2) / 1e6 : 0
  }
  return undefined
}

/** How many items an Export…ServiceResponse says were rejected. */
export function rejectedIn(response: Uint8Array): number {
  const [partialSuccess] = messages(response, 1)
  const rejected = partialSuccess ? number(partialSuccess, 1) : 0
  // A negative number comes as one beyond what an int64 holds.
  return rejected < 2 ** 63 ? rejected : 0
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
