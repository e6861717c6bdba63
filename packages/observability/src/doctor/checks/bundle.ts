import { readFileSync, statSync } from 'node:fs'
import { type Finding, fine, note } from '../finding.ts'

const MOST_BYTES = 100 * 1024 * 1024
// What esbuild, tsup and rollup with its CommonJS plugin, webpack and Parcel leave in a file.
const MARKS = /__commonJS\b|__toESM\b|getDefaultExportFromCjs|__webpack_require__|parcelRequire/
const SUITE_MARK = 'fastify-observability.registered'
const PRELOAD_ONLY = ['pg', 'ioredis', '@redis/client']

/** Whether the file is a bundle, and what of it the preload cannot reach. */
export function checkBundle(file: string): Finding[] {
  if (statSync(file).size > MOST_BYTES) return []
  const source = readFileSync(file, 'utf8')
  if (!MARKS.test(source)) return [fine('bundle', 'the file is no bundle')]
  const inside = PRELOAD_ONLY.filter((name) => source.includes(`node_modules/${name}/`))
  const parts = [
    source.includes(SUITE_MARK) ? 'the suite is inside' : 'the suite is outside',
    ...(inside.length > 0 ? [`the preload cannot reach ${inside.join(', ')}, which is inside`] : [])
  ]
  const text = `the file looks bundled: ${parts.join('; ')}`
  return [inside.length > 0 ? note('bundle', 'bundled', text) : fine('bundle', text)]
}
