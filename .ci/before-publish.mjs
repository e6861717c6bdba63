// Refuses to publish by anything but pnpm. Run by each package's `prepublishOnly`, in its folder.
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'

const { name } = JSON.parse(readFileSync('package.json', 'utf8'))

// npm packs right (see packing.mjs), but tells the registry the versions of package.json as it stands after that.
if (!basename(process.env.npm_execpath).startsWith('pnpm')) {
  console.error(`${name} is not published: publish with pnpm`)
  process.exitCode = 1
}
