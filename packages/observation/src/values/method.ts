// https://opentelemetry.io/docs/specs/semconv/http/http-spans/#common-attributes
const STANDARD = ['CONNECT', 'DELETE', 'GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'PUT', 'QUERY', 'TRACE']

// Read when first asked for, as the other variables are.
let methods: Set<string> | undefined

/** The method, or `_OTHER` for one that is not known: callers and callees can send any word. */
export function knownMethod(method: unknown): string {
  return typeof method === 'string' && known().has(method) ? method : '_OTHER'
}

/** Adds the methods of a route: an app has few, and no caller chooses them. */
export function addKnownMethods(added: string | readonly string[]): void {
  for (const method of [added].flat()) known().add(method)
}

function known(): Set<string> {
  methods ??= new Set(fromEnv() ?? STANDARD)
  return methods
}

/** @see https://opentelemetry.io/docs/specs/semconv/http/http-spans/#common-attributes */
function fromEnv(): string[] | undefined {
  const names = (process.env.OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS ?? '').split(',').map((name) => name.trim())
  const given = names.filter(Boolean)
  return given.length > 0 ? given : undefined
}
