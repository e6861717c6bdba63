import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chown, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { freePorts } from '@fastify-observability/testing/ports'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'

/** A server of our own that can be killed, stopped and started again at the same address. */
export interface Server {
  port: number
  start(): Promise<void>
  signal(signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): Promise<void>
  close(): Promise<void>
}

const POSTGRES_FOLDER = '/usr/lib/postgresql'

/** Where PostgreSQL's programs are; Debian keeps them off the PATH. */
async function postgresPrograms(): Promise<string | undefined> {
  if (spawnSync('initdb', ['--version']).status === 0) return ''
  if (!existsSync(POSTGRES_FOLDER)) return undefined
  const version = (await readdir(POSTGRES_FOLDER)).sort((a, b) => Number(b) - Number(a))[0]
  return version === undefined ? undefined : join(POSTGRES_FOLDER, version, 'bin/')
}

const programs = await postgresPrograms()
export const NO_POSTGRES = programs === undefined && 'PostgreSQL is not installed'
export const NO_REDIS = spawnSync('redis-server', ['--version']).status !== 0 && 'Redis is not installed'

// PostgreSQL refuses to run as root.
const isRoot = process.getuid?.() === 0
const asPostgres = (...command: string[]): string[] =>
  isRoot ? ['runuser', '-u', 'postgres', '--', ...command] : command

export async function startPostgres(): Promise<Server> {
  // Its folder has to be within reach of another user.
  const folder = await mkdtemp('/tmp/postgres-')
  if (isRoot) await chown(folder, Number(spawnSync('id', ['-u', 'postgres']).stdout.toString()), 0)
  const [command = '', ...args] = asPostgres(
    `${programs}initdb`,
    '-D',
    `${folder}/data`,
    '-U',
    'postgres',
    '-A',
    'trust',
    '--no-sync'
  )
  const made = spawnSync(command, args, { cwd: '/' })
  if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr}`)
  const [port = 0] = await freePorts(1)
  return server(
    port,
    folder,
    asPostgres(
      `${programs}postgres`,
      '-D',
      `${folder}/data`,
      '-h',
      '127.0.0.1',
      '-p',
      `${port}`,
      '-c',
      'unix_socket_directories=',
      '-F'
    )
  )
}

export async function startRedis(): Promise<Server> {
  const folder = await mkdtemp('/tmp/redis-')
  const [port = 0] = await freePorts(1)
  return server(port, folder, [
    'redis-server',
    '--bind',
    '127.0.0.1',
    '--port',
    `${port}`,
    '--save',
    '',
    '--dir',
    folder
  ])
}

async function server(port: number, folder: string, [command = '', ...args]: string[]): Promise<Server> {
  let child: ChildProcess | undefined

  async function start(): Promise<void> {
    child = spawn(command, args, { cwd: '/', stdio: 'ignore' })
    const deadline = AbortSignal.timeout(PATIENCE_MS)
    while (!(await accepts(port))) {
      if (deadline.aborted) throw new Error(`${command} does not listen on ${port}`)
      await wait(50)
    }
  }

  async function signal(name: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const family = await familyOf(child.pid ?? 0)
    // The parent first, or it replaces the others.
    for (const pid of family) {
      try {
        process.kill(pid, name)
      } catch {
        // It went with its parent.
      }
    }
    if (name !== 'SIGKILL') return
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    // What a killed PostgreSQL leaves keeps the next one from starting.
    await rm(join(folder, 'data/postmaster.pid'), { force: true })
  }

  await start()
  return {
    port,
    start,
    signal,
    async close() {
      await signal('SIGKILL')
      await rm(folder, { recursive: true, force: true, maxRetries: 5 })
    }
  }
}

/** A process and its descendants. */
async function familyOf(pid: number): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '')
  const families = await Promise.all(
    children
      .split(' ')
      .filter(Boolean)
      .map((child) => familyOf(Number(child)))
  )
  return [pid, ...families.flat()]
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  const [event] = await Promise.race([
    once(socket, 'connect').then(() => ['connect']),
    once(socket, 'error').then(() => ['error'])
  ]).catch(() => ['error'])
  socket.destroy()
  return event === 'connect'
}
