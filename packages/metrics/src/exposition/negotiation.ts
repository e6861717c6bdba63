import type { Format } from './format.ts'

/** The format for an `Accept` header: text unless OpenMetrics is named and preferred no less. */
export function negotiate(accept: string | undefined): Format {
  if (accept === undefined) return 'text'
  let openMetrics = 0
  let text = 0
  for (const { value, quality, version } of accepted(accept)) {
    if (value === 'application/openmetrics-text') {
      if (version === undefined || version === '1.0.0' || version === '0.0.1')
        openMetrics = Math.max(openMetrics, quality)
    } else if (value === 'text/plain' && (version === undefined || version === '0.0.4')) {
      text = Math.max(text, quality)
    }
  }
  return openMetrics > 0 && openMetrics >= text ? 'openmetrics' : 'text'
}

export function acceptsGzip(acceptEncoding: string | undefined): boolean {
  if (acceptEncoding === undefined) return false
  const all = accepted(acceptEncoding)
  const gzip = all.find(({ value }) => value === 'gzip' || value === 'x-gzip') ?? all.find(({ value }) => value === '*')
  return gzip !== undefined && gzip.quality > 0
}

function accepted(header: string): { value: string; quality: number; version: string | undefined }[] {
  return header
    .toLowerCase()
    .split(',')
    .map((part) => {
      const [value = '', ...parameters] = part.split(';').map((word) => word.trim())
      const parameter = (name: string) => parameters.find((word) => word.startsWith(name))?.slice(name.length)
      const quality = Number(parameter('q=') ?? 1)
      return {
        value,
        quality: Number.isNaN(quality) ? 0 : quality,
        version: parameter('version=')?.replaceAll('"', '')
      }
    })
}
