import type { Family, Sample } from '../exposition/format.ts'

type Attributes = Readonly<Record<string, string | number>>

/** What a metric is called in points, and what its values count. */
export interface Convention {
  name: string
  unit: string
  /** A count of what is there now, which goes up and down. */
  isUpDown?: boolean
  attributesOf(labels: Sample['labels'], scheme: string): Attributes
}

// https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#http-server
const REQUEST_METRICS = new Map<string, Omit<Convention, 'attributesOf'>>([
  ['http_server_request_duration_seconds', { name: 'http.server.request.duration', unit: 's' }],
  ['http_server_active_requests', { name: 'http.server.active_requests', unit: '{request}', isUpDown: true }],
  ['http_server_request_body_size_bytes', { name: 'http.server.request.body.size', unit: 'By' }],
  ['http_server_response_body_size_bytes', { name: 'http.server.response.body.size', unit: 'By' }]
])
const REQUEST_ATTRIBUTES = new Map([
  ['http_request_method', 'http.request.method'],
  ['http_route', 'http.route'],
  ['http_response_status_code', 'http.response.status_code'],
  ['error_type', 'error.type']
])
// https://ucum.org/ucum, as the conventions demand.
const UNITS = new Map([
  ['seconds', 's'],
  ['bytes', 'By'],
  ['ratio', '1'],
  ['celsius', 'Cel'],
  ['meters', 'm'],
  ['joules', 'J'],
  ['grams', 'g'],
  ['volts', 'V'],
  ['amperes', 'A']
])

/** The semantic convention of a request metric; all others keep the name that they have on `/metrics`. */
export function conventionOf({ name }: Family): Convention {
  const known = REQUEST_METRICS.get(name)
  if (known) return { ...known, attributesOf: requestAttributes }
  const ending =
    name
      .replace(/_total$/, '')
      .split('_')
      .at(-1) ?? ''
  return { name, unit: UNITS.get(ending) ?? '', attributesOf: presentLabels }
}

function requestAttributes(labels: Sample['labels'], scheme: string): Attributes {
  const attributes: Record<string, string | number> = { 'url.scheme': scheme }
  for (const [label, value] of Object.entries(presentLabels(labels))) {
    // The convention leaves the route out where there is none.
    if (label === 'http_route' && value === 'unmatched') continue
    const isStatus = label === 'http_response_status_code' && /^\d+$/.test(String(value))
    attributes[REQUEST_ATTRIBUTES.get(label) ?? label] = isStatus ? Number(value) : value
  }
  return attributes
}

// To Prometheus, an empty label is none.
function presentLabels(labels: Sample['labels'] = {}): Attributes {
  const present: Record<string, string | number> = {}
  for (const [name, value] of Object.entries(labels)) {
    if (value !== undefined && value !== '') present[name] = typeof value === 'number' ? value : String(value)
  }
  return present
}
