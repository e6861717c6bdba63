import { type ExecFileOptions, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { promisify, stripVTControlCharacters } from 'node:util'
import { freePorts } from '../../packages/testing/src/ports.ts'

export interface Registry {
  url: string
  /** What makes npm, pnpm, yarn 1 and bun use the registry, with caches that hold nothing else. */
  env: NodeJS.ProcessEnv
  close(): Promise<void>
}

const RUN_TIMEOUT_MS = 180_000
const START_TIMEOUT_MS = 30_000
const execute = promisify(execFile)

/**
 * What a command has printed on standard output and standard error.
 * @throws on any exit code but 0, and when it has not ended by itself in time
 */
export async function run(command: string, args: string[], options: ExecFileOptions): Promise<string> {
  const limits = { timeout: RUN_TIMEOUT_MS, killSignal: 'SIGKILL', maxBuffer: 64 * 1024 * 1024 } as const
  const { stdout, stderr } = await execute(command, args, { ...limits, ...options, encoding: 'utf8' })
  return stripVTControlCharacters(stdout + stderr)
}

/** A registry on loopback that has nothing yet, and everything else from the one that this machine uses. */
export async function startRegistry(folder: string): Promise<Registry> {
  await mkdir(folder)
  await cp(new URL('package.json', import.meta.url), join(folder, 'package.json'))
  await run('npm', ['install', '--no-audit', '--no-fund'], { cwd: folder })
  const [port] = await freePorts(1)
  const url = `http://127.0.0.1:${port}/`
  const upstream = await configured('registry', folder)
  const authorities = await configured('cafile', folder)
  await writeFile(join(folder, 'config.json'), JSON.stringify(settings(upstream)))
  // Verdaccio lets everybody publish here; npm and pnpm want a token all the same.
  const npmrc = [`registry=${url}`, `${url.replace('http:', '')}:_authToken=nobody`]
  await writeFile(join(folder, 'npmrc'), npmrc.join('\n'))

  const executable = join(folder, 'node_modules/verdaccio/bin/verdaccio')
  const args = ['--config', join(folder, 'config.json'), '--listen', url]
  // Verdaccio knows nothing of npm's settings.
  const env = authorities === 'null' ? process.env : { NODE_EXTRA_CA_CERTS: authorities, ...process.env }
  const child = spawn(process.execPath, [executable, ...args], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const log = join(folder, 'log')
  const written = createWriteStream(log)
  child.stdout.pipe(written, { end: false })
  child.stderr.pipe(written, { end: false })
  const ended = once(child, 'close')
  async function close(): Promise<void> {
    child.kill('SIGKILL')
    await ended
    written.end()
  }
  try {
    await Promise.race([answers(url), ended.then(() => Promise.reject(new Error('Verdaccio has ended')))])
  } catch (error) {
    await close()
    throw new Error(await readFile(log, 'utf8'), { cause: error })
  }
  return { url, env: environment(folder, url), close }
}

/** What npm is set to, `null` where it is not. */
async function configured(name: string, cwd: string): Promise<string> {
  return (await run('npm', ['config', 'get', name], { cwd })).trim()
}

function settings(upstream: string): object {
  const own = { access: '$all', publish: '$all' }
  return {
    storage: './storage',
    max_body_size: '50mb',
    log: { type: 'stdout', format: 'json', level: 'warn' },
    uplinks: { upstream: { url: upstream, timeout: '60s', max_fails: 20 } },
    packages: {
      'fastify-observability': own,
      '@fastify-observability/*': own,
      '**': { access: '$all', proxy: 'upstream' }
    }
  }
}

function environment(folder: string, url: string): NodeJS.ProcessEnv {
  return {
    ...process.env,
    PATH: [join(folder, 'node_modules/.bin'), process.env.PATH].join(delimiter),
    npm_config_registry: url,
    npm_config_userconfig: join(folder, 'npmrc'),
    npm_config_cache: join(folder, 'npm'),
    npm_config_update_notifier: 'false',
    XDG_CACHE_HOME: join(folder, 'cache'),
    XDG_DATA_HOME: join(folder, 'data'),
    YARN_CACHE_FOLDER: join(folder, 'yarn'),
    BUN_INSTALL_CACHE_DIR: join(folder, 'bun')
  }
}

async function answers(url: string): Promise<void> {
  const deadline = AbortSignal.timeout(START_TIMEOUT_MS)
  while (!deadline.aborted) {
    const answer = await fetch(`${url}-/ping`, { signal: deadline }).catch(() => undefined)
    if (answer?.ok) return
    await setTimeout(50)
  }
  deadline.throwIfAborted()
}
