// Writes `src/catalogue.json` from the options of all parts, when it is run: `node packages/devtools/test/catalogue.ts`.
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export interface CatalogueEntry {
  part: string
  option: string
  variables: string[]
  default: string
}

const PACKAGES = new URL('../../', import.meta.url)
const SOURCES = {
  service: ['observation/src/options/service.ts', 'ServiceOptions'],
  requestId: ['request-id/src/options.ts', 'RequestIdOptions'],
  logging: ['logging/src/options.ts', 'LoggingOptions'],
  tracing: ['tracing/src/options.ts', 'TracingOptions'],
  metrics: ['metrics/src/options.ts', 'MetricsOptions'],
  health: ['health/src/options.ts', 'HealthOptions'],
  sentry: ['sentry/src/options.ts', 'SentryOptions'],
  profiling: ['profiling/src/options.ts', 'ProfilingOptions'],
  // Its own, and each that no part above has.
  observability: ['observability/src/index.ts', 'ObservabilityOptions']
}
const FIELD = /(?:\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*)?^ {2}(\w+)\?:/gm
const VARIABLE = /[A-Z]+(?:_[A-Z]+|_?\([A-Z_]+\)_?)+/g
export const CATALOGUE = fileURLToPath(new URL('../src/catalogue.json', import.meta.url))

/** Each option with what its own documentation says of its default. */
export function readCatalogue(): CatalogueEntry[] {
  return Object.entries(SOURCES).flatMap(([part, [path = '', name]]) => {
    const source = readFileSync(new URL(path, PACKAGES), 'utf8')
    const [, body = ''] = new RegExp(`^export interface ${name} \\{\\n([\\s\\S]*?)^\\}`, 'm').exec(source) ?? []
    const handedOn = part === 'observability' ? Object.keys(SOURCES) : ['service', 'management']
    return Array.from(body.matchAll(FIELD), ([, comment = '', option = '']) => entryOf(part, option, comment)).filter(
      ({ option }) => part === 'service' || !handedOn.includes(option)
    )
  })
}

function entryOf(part: string, option: string, comment: string): CatalogueEntry {
  const text = comment.replace(/\n\s*\*/g, ' ').replace(/\s+/g, ' ')
  const [, said = 'none'] = /@default (.*?)(?: @\w+|\s*$)/.exec(text) ?? []
  const named = said.match(VARIABLE) ?? []
  return { part, option, variables: named.flatMap(spelledOut), default: said.trim() }
}

/** `A_(B_)C` is `A_B_C` and `A_C`. */
function spelledOut(name: string): string[] {
  const short = name.replace(/\(.*?\)/, '')
  return name.includes('(') ? [name.replace(/[()]/g, ''), short.replace(/__/, '_')] : [name]
}

if (import.meta.main) writeFileSync(CATALOGUE, `${JSON.stringify(readCatalogue(), null, 2)}\n`)
