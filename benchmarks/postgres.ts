import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { besideLoad } from './process.ts'

export interface Postgres {
  url: string
  stop(): Promise<void>
}

const DEBIAN = '/usr/lib/postgresql'
const TRIES = 100

/** TEST_DATABASE_URL, else a throw-away PostgreSQL from the programs of this machine, else nothing. */
export async function startPostgres(): Promise<Postgres | undefined> {
  const given = process.env.TEST_DATABASE_URL
  if (given) return prepared({ url: given, stop: async () => undefined })
  const programs = findPrograms()
  if (programs === undefined) return undefined

  const folder = mkdtempSync(join(tmpdir(), 'bench-postgres-'))
  const data = join(folder, 'data')
  mkdirSync(data)
  // It refuses to run as root.
  const user = process.getuid?.() === 0 ? idOf('postgres') : undefined
  if (user) for (const path of [folder, data]) chownSync(path, user.uid, user.gid)
  const options = { cwd: folder, ...user }
  const made = spawnSync(join(programs, 'initdb'), ['-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync'], options)
  if (made.status !== 0) throw new Error(`initdb: ${made.stderr}`)
  const port = await freePort()
  const [command, args] = besideLoad(join(programs, 'postgres'), [
    '-D',
    data,
    '-h',
    '127.0.0.1',
    '-p',
    String(port),
    '-k',
    folder
  ])
  const server = spawn(command, args, { ...options, stdio: 'ignore' })
  return prepared({
    url: `postgresql://postgres@127.0.0.1:${port}/postgres`,
    async stop() {
      server.kill('SIGINT')
      if (server.exitCode === null) await once(server, 'exit')
      rmSync(folder, { recursive: true })
    }
  })
}

async function prepared(postgres: Postgres): Promise<Postgres> {
  const client = await connected(postgres.url)
  await client.query('drop table if exists users')
  await client.query('create table users (id integer primary key, name text not null, active boolean not null)')
  await client.query("insert into users select id, 'user ' || id, true from generate_series(1, 1000) as id")
  await client.end()
  return postgres
}

async function connected(connectionString: string): Promise<pg.Client> {
  for (let tries = 1; ; tries++) {
    const client = new pg.Client({ connectionString })
    try {
      await client.connect()
      return client
    } catch (error) {
      if (tries === TRIES) throw error
      await sleep(100)
    }
  }
}

function findPrograms(): string | undefined {
  const versions = existsSync(DEBIAN) ? readdirSync(DEBIAN).sort((a, b) => Number(b) - Number(a)) : []
  const folders = [...(process.env.PATH ?? '').split(':'), ...versions.map((version) => join(DEBIAN, version, 'bin'))]
  return folders.find((folder) => existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'postgres')))
}

function idOf(user: string): { uid: number; gid: number } {
  const id = (flag: string): number => Number(spawnSync('id', [flag, user], { encoding: 'utf8' }).stdout)
  return { uid: id('-u'), gid: id('-g') }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  await once(probe, 'close')
  if (typeof address !== 'object' || address === null) throw new Error('no port is free')
  return address.port
}
