// Makes what `pnpm deploy` wrote run: Node strips no types below node_modules, so the packages of the workspace there have to
// be what would be published, `dist` instead of `src`. pnpm does that when it packs, and not when it deploys.
import { globSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

interface Manifest {
  publishConfig?: Record<string, unknown>
}

const [app] = process.argv.slice(2)
if (app === undefined) throw new Error('image.ts takes the folder that pnpm deployed to')

const manifests = globSync(
  [
    'fastify-observability@*/node_modules/fastify-observability',
    '@fastify-observability+*/node_modules/@fastify-observability/*'
  ].map((folder) => join(app, 'node_modules/.pnpm', folder, 'package.json'))
)
for (const file of manifests) {
  const { publishConfig = {}, ...manifest }: Manifest = JSON.parse(readFileSync(file, 'utf8'))
  // The file may be the workspace's own, by a hard link.
  rmSync(file)
  writeFileSync(file, JSON.stringify({ ...manifest, ...publishConfig }, null, 2))
}
for (const file of globSync(join(app, 'node_modules/.pnpm/**/*.{map,tsbuildinfo}'))) rmSync(file)
for (const file of ['test', 'pnpm-lock.yaml', 'pnpm-workspace.yaml'])
  rmSync(join(app, file), { recursive: true, force: true })
console.log(`${manifests.length} packages of the workspace as they are published, in ${dirname(join(app, 'x'))}`)
