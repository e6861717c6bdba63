import { readFileSync } from 'node:fs'
import { isRecord } from '../values/record.ts'

// Of a module in `src` or `dist`, or in a folder of these.
const PLACES = ['../package.json', '../../package.json']

/** The version of a package, by the address of one of its modules; `undefined` where a bundler has left package.json behind. */
export function versionOf(name: string, moduleUrl: string): string | undefined {
  for (const place of PLACES) {
    try {
      const found: unknown = JSON.parse(readFileSync(new URL(place, moduleUrl), 'utf8'))
      // A bundle may stand beside the package.json of an application.
      if (isRecord(found) && found.name === name) return String(found.version)
    } catch {
      // Not there.
    }
  }
  return undefined
}
