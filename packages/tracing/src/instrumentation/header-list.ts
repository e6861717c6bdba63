import type { OutgoingHttpHeaders, RequestOptions } from 'node:http'

/**
 * Gives the headers of a call as an object where they are a list of names and values: instrumentation-http copies a list
 * into an object, and its indexes go out as names. Adds no attributes to the span.
 */
export function convertHeaderList(options: RequestOptions): Record<string, never> {
  if (Array.isArray(options.headers)) options.headers = headersOf(options.headers)
  return {}
}

// Node takes a flat list, and one of pairs.
function headersOf(list: readonly unknown[]): OutgoingHttpHeaders {
  const flat = list.flat()
  const values = new Map<string, { name: string; values: string[] }>()
  for (let index = 0; index + 1 < flat.length; index += 2) {
    const name = String(flat[index])
    const header = values.get(name.toLowerCase()) ?? { name, values: [] }
    header.values.push(String(flat[index + 1]))
    values.set(name.toLowerCase(), header)
  }
  return Object.fromEntries(
    Array.from(values.values(), ({ name, values: [first = '', ...more] }) => [
      name,
      more.length > 0 ? [first, ...more] : first
    ])
  )
}
