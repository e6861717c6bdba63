// https://opentelemetry.io/docs/specs/semconv/http/http-spans/#common-attributes
const METHODS = new Set(['CONNECT', 'DELETE', 'GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'PUT', 'QUERY', 'TRACE'])

/** A method that HTTP defines, or `_OTHER`: callers and callees can send any word. */
export function knownMethod(method: unknown): string {
  return typeof method === 'string' && METHODS.has(method) ? method : '_OTHER'
}
