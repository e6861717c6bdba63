// node installed.mjs PACKAGES…: fails for one that is not installed above the current folder.
import { findPackageJSON } from 'node:module'
import { join } from 'node:path'

for (const argument of process.argv.slice(2)) {
  if (argument.startsWith('-')) continue
  const name = argument.replace(/(?<=.)@[^/]*$/, '')
  if (!findPackageJSON(name, join(process.cwd(), 'any.js'))) throw new Error(`${name} is not among what the blocks use`)
}
