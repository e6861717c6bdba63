import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface Manager {
  name: string
  /** The command that adds packages to a project. */
  add: [command: string, ...args: string[]]
  /** The peers that it leaves to the user. */
  peers: string[]
  /** Writes what the README asks of its users before they install. */
  prepare(project: string): Promise<void>
}

const README = await readFile('packages/observability/README.md', 'utf8')

/** Of the README, what the group of the pattern matches. */
function advice(pattern: RegExp): string {
  const [, found] = pattern.exec(README) ?? []
  if (found === undefined) throw new Error(`the README has no ${pattern}`)
  return found
}

async function writeManifest(project: string, more: object = {}): Promise<void> {
  const manifest = { name: 'consumer', version: '1.0.0', private: true, type: 'module', license: 'MIT', ...more }
  await writeFile(join(project, 'package.json'), JSON.stringify(manifest))
}

export const npm: Manager = {
  name: 'npm',
  add: ['npm', 'install', '--no-audit', '--no-fund'],
  peers: [],
  prepare: writeManifest
}

export const pnpm: Manager = {
  name: 'pnpm',
  add: ['pnpm', 'add'],
  peers: [],
  async prepare(project) {
    await writeManifest(project)
    await writeFile(join(project, 'pnpm-workspace.yaml'), advice(/`(allowBuilds: \{.+?\})`/))
  }
}

export const yarn: Manager = {
  name: 'yarn 1',
  add: ['yarn', 'add', '--non-interactive', '--no-progress'],
  peers: advice(/yarn 1 .+?`yarn add fastify-observability ([^`]+)`/s).split(' '),
  async prepare(project) {
    await writeManifest(project, JSON.parse(`{${advice(/`("resolutions": \{.+?\})`/)}}`))
  }
}

export const bun: Manager = { name: 'bun', add: ['bun', 'add'], peers: [], prepare: writeManifest }
