// Makes npm pack what pnpm packs. Run by each package's `prepack` and `postpack`, in its folder: npm takes package.json as it
// stands, so while it packs, the published manifest stands there, and LICENSE beside it.
import { execFileSync, spawn } from 'node:child_process'
import { copyFileSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { parse } from 'yaml'

const ORIGINAL = 'node_modules/.package.json'
const WORKSPACE = '../../pnpm-workspace.yaml'
const DEPENDENCIES = ['dependencies', 'devDependencies', 'peerDependencies']
// What pnpm takes out of `publishConfig`, and what of `scripts` it leaves out.
const OVERRIDES = ['bin', 'exports', 'main', 'types']
const LIFECYCLE = ['prepublishOnly', 'prepack', 'postpack']
const WATCH_INTERVAL_MS = 20

function readJson(file) {
  return JSON.parse(readFileSync(file, 'utf8'))
}

/** The manifest as pnpm writes it, in the order of its keys. */
function publishedManifest({ scripts, ...manifest }) {
  const { catalog } = parse(readFileSync(WORKSPACE, 'utf8'))
  const published = { ...manifest, publishConfig: { ...manifest.publishConfig } }
  for (const kind of DEPENDENCIES) {
    const entries = Object.entries(manifest[kind] ?? {})
    if (entries.length > 0) published[kind] = Object.fromEntries(entries.map((entry) => versioned(entry, catalog)))
  }
  published.scripts = Object.fromEntries(Object.entries(scripts).filter(([name]) => !LIFECYCLE.includes(name)))
  for (const key of OVERRIDES) {
    if (!(key in published.publishConfig)) continue
    published[key] = published.publishConfig[key]
    delete published.publishConfig[key]
  }
  return published
}

function versioned([name, range], catalog) {
  if (range === 'catalog:') return [name, catalog[name]]
  if (range === 'workspace:^') return [name, `^${readJson(`node_modules/${name}/package.json`).version}`]
  return [name, range]
}

function assertBuilt({ name, exports }) {
  const missing = Object.values(exports)
    .map(({ built }) => built)
    .filter((file) => !existsSync(file))
  if (missing.length > 0)
    throw new Error(`${name} is not packed: run "pnpm build" first, there is no ${missing.join(', ')}`)
}

function start() {
  const manifest = readJson('package.json')
  if (existsSync(ORIGINAL)) {
    throw new Error(`${manifest.name} is being packed already; if not, "npm run postpack" puts package.json back`)
  }
  assertBuilt(manifest)
  if (basename(process.env.npm_execpath).startsWith('pnpm')) return
  const text = JSON.stringify(publishedManifest(manifest), null, 2)
  restoreAfter(packer())
  // Renamed and not written again, so that it keeps its time of change, by which pnpm tells whether to install anew.
  renameSync('package.json', ORIGINAL)
  writeFileSync('package.json', text)
  copyFileSync('../../LICENSE', 'LICENSE')
}

function restore() {
  if (!existsSync(ORIGINAL)) return
  rmSync('LICENSE', { force: true })
  renameSync(ORIGINAL, 'package.json')
}

/** The process of npm, which runs scripts by a shell. Unknown where there is no `ps`. */
function packer() {
  try {
    const args = ['-ww', '-o', 'ppid=,args=', '-p', String(process.ppid)]
    const [, parent, command] = /(\d+)\s+(.*)/.exec(execFileSync('ps', args, { encoding: 'utf8' }))
    return command.includes(basename(import.meta.filename)) ? parent : String(process.ppid)
  } catch {
    return undefined
  }
}

/** npm runs no `postpack` after it has failed. */
function restoreAfter(npm) {
  if (npm === undefined) return
  const args = [import.meta.filename, 'watch', npm]
  spawn(process.execPath, args, { detached: true, stdio: 'ignore' }).unref()
}

async function watch(npm) {
  do await setTimeout(WATCH_INTERVAL_MS)
  while (isAlive(Number(npm)))
  restore()
}

function isAlive(pid) {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

const [command, ...args] = process.argv.slice(2)
try {
  await { start, restore, watch }[command](...args)
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
}
