import { isRecord } from '@fastify-observability/observation/internal'
import { context, propagation } from '@opentelemetry/api'
import { isTracingSuppressed } from '@opentelemetry/core'

/**
 * What of a call's headers goes out beside ours. Proxies send on what they have received, a caller's trace context too: a
 * receiver that finds two drops both, and begins a trace of its own. Called before ours are set.
 */
export function prepareHttpHeaders(options: object): void {
  if (!('headers' in options) || !isRecord(options.headers)) return
  // instrumentation-http copies a list as if it were an object: its indices would become names.
  const headers = Array.isArray(options.headers) ? fromList(options.headers) : { ...options.headers }
  if (!isTracingSuppressed(context.active())) {
    const fields = propagation.fields()
    for (const name of Object.keys(headers)) if (fields.includes(name.toLowerCase())) delete headers[name]
  }
  Object.assign(options, { headers })
}

/** Node takes names and values in turn, or pairs of them; a name may come several times. */
function fromList(list: unknown[]): Record<string, unknown> {
  const flat = Array.isArray(list[0]) ? list.flat() : list
  const headers = new Map<string, [name: string, values: unknown[]]>()
  for (let index = 0; index + 1 < flat.length; index += 2) {
    const name = String(flat[index])
    const known = headers.get(name.toLowerCase())
    if (known) known[1].push(flat[index + 1])
    else headers.set(name.toLowerCase(), [name, [flat[index + 1]]])
  }
  return Object.fromEntries(
    Array.from(headers.values(), ([name, values]) => [name, values.length === 1 ? values[0] : values])
  )
}

/** The same for undici, which keeps one text in its version 5 and a list since 6. */
export function prepareUndiciHeaders(request: { headers: unknown }): void {
  const fields = propagation.fields()
  const { headers } = request
  if (typeof headers === 'string') {
    const isKept = (line: string): boolean => !fields.includes(line.slice(0, line.indexOf(':')).toLowerCase())
    request.headers = headers.split('\r\n').filter(isKept).join('\r\n')
  } else if (Array.isArray(headers)) {
    for (let index = headers.length - 2; index >= 0; index -= 2) {
      if (fields.includes(String(headers[index]).toLowerCase())) headers.splice(index, 2)
    }
  }
}
