// Builds `dist` of what is published: declarations by TypeScript, and by esbuild one module for each entry of a package, with
// what its entries share in `chunks`, so that there is one of it.
import { execFileSync } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { build, type Plugin } from 'esbuild'
import { publishedFolders } from './tarballs.ts'

interface Manifest {
  version: string
  exports: Record<string, { default: string }>
  bin?: Record<string, string>
}

// Started as a process of its own, and so named nowhere.
const STARTED: Record<string, string[]> = { 'fastify-observability': ['./src/doctor/inspection.ts'] }

// Modules need nothing else of their package.json, and who bundles them no plugin for JSON.
const versionOnly: Plugin = {
  name: 'version only',
  setup({ onLoad }) {
    onLoad({ filter: /[\\/]package\.json$/ }, async ({ path }) => {
      const { version }: Manifest = JSON.parse(await readFile(path, 'utf8'))
      return { contents: JSON.stringify({ version }), loader: 'json' }
    })
  }
}

async function bundle(name: string, folder: string): Promise<void> {
  const { exports, bin = {} }: Manifest = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'))
  const sources = Object.values(exports).map(({ default: source }) => source)
  await build({
    absWorkingDir: join(process.cwd(), folder),
    entryPoints: [...sources, ...Object.values(bin), ...(STARTED[name] ?? [])],
    outbase: 'src',
    outdir: 'dist',
    bundle: true,
    splitting: true,
    chunkNames: 'chunks/[name]-[hash]',
    format: 'esm',
    platform: 'node',
    target: 'es2023',
    packages: 'external',
    external: ['#*'],
    plugins: [versionOnly],
    sourcemap: true,
    logLevel: 'warning'
  })
}

const folders = await publishedFolders()
for (const folder of folders.values()) await rm(join(folder, 'dist'), { recursive: true, force: true })
execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-b', '--force'], { stdio: 'inherit' })
for (const [name, folder] of folders) await bundle(name, folder)
