import { randomInt } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { type FileHandle, open, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { within } from '@fastify-observability/observation/internal'
import { isFull } from './sink.ts'

export interface ArchiveRules {
  compress: boolean
  maxAgeMs: number
  /** What all archives may take together; the oldest go first. */
  maxBytes: number
  mode: number
  /** The base name before `%pid` was replaced in it. */
  template: string
  /** Whether other processes rotate the same file. */
  isContended(): boolean
}

/** What a log file leaves behind when it rotates, in this run of the process and in earlier ones. */
export interface Archives {
  /** The name for the file that rotates now, another one at each call. */
  name(): string
  /** The rotation is over: deletes what the rules say and starts to compress the rest. Never rejects. */
  sweep(): Promise<void>
  /** Lets the compression end, or breaks it off when the time is over: the next run then does it. */
  close(deadlineMs: number): Promise<void>
}

interface Archive {
  path: string
  size: number
  mtime: Date
}

const STAMPED = /^\.\d{8}T\d{9}Z(-\d+)?(\.gz(\.(\d+\.)?tmp)?)?$/
/** In a path, becomes the id of the process, and of the thread in a worker thread. */
export const PID = '%pid'
// What another process has begun, a write to a file that rotates or a rotation, is over within this time.
const SETTLED_MS = 10_000
// Processes that share a file rotate it in the same millisecond, at midnight, and their ids may be the same in two containers.
const MAX_UNIQUE = 1_000_000

/** `app.log` becomes `app.log.20261122T235959999Z-7041` and that, compressed, `app.log.20261122T235959999Z-7041.gz`. */
export function keepArchives(path: string, rules: ArchiveRules): Archives {
  const { compress, maxAgeMs, maxBytes, mode, template, isContended } = rules
  const folder = dirname(path)
  const base = basename(path)
  const namesakes = namesakesOf(template)
  const abort = new AbortController()
  // The rotation probes its name with an empty file: not yet an archive.
  let rotating: string | undefined
  let sweeping = Promise.resolve()
  let compressing = Promise.resolve()
  let temporary: string | undefined

  function isOwn(name: string): boolean {
    return name.startsWith(base) && STAMPED.test(name.slice(base.length))
  }

  /** Whether a process has left it that has ended. */
  function isLeft(name: string): boolean {
    const [, pid, rest = ''] = (name !== base && namesakes?.exec(name)) || []
    return pid !== undefined && (rest === '' || STAMPED.test(rest)) && !isRunning(Number(pid))
  }

  /** The newest first. */
  async function list(): Promise<Archive[]> {
    const names = (await readdir(folder)).filter((name) => isOwn(name) || isLeft(name))
    const found = await Promise.all(names.map((name) => archiveAt(join(folder, name))))
    return found
      .filter((archive) => archive !== undefined)
      .filter((archive) => archive.path !== rotating && archive.path !== temporary)
      .sort((one, other) => other.mtime.getTime() - one.mtime.getTime() || (one.path < other.path ? 1 : -1))
  }

  /** Of an empty file and a half compressed one; an empty one may keep the name for what another process rotates. */
  function isAbandoned(path: string, size: number, ageMs: number): boolean {
    if (size === 0) return ageMs > SETTLED_MS
    return path.endsWith('.tmp') && (ageMs > SETTLED_MS || !isContended())
  }

  async function sweep(): Promise<void> {
    let total = 0
    for (const { path, size, mtime } of await list()) {
      total += size
      const ageMs = Date.now() - mtime.getTime()
      // One that cannot be deleted, as in a folder of somebody else's, does not keep the others.
      if (isAbandoned(path, size, ageMs) || ageMs > maxAgeMs || total > maxBytes)
        await rm(path, { force: true }).catch(() => undefined)
    }
  }

  async function compressAll(): Promise<void> {
    const archives = await list()
    const times = new Map(archives.map(({ path, mtime }) => [path, mtime.getTime()]))
    for (const archive of archives.reverse()) {
      if (abort.signal.aborted) return
      // An empty one keeps a name for a rotation, or is what is left of one.
      if (archive.size === 0 || /\.(gz|tmp)$/.test(archive.path) || !isOwn(basename(archive.path))) continue
      if (isContended() && Date.now() - archive.mtime.getTime() < SETTLED_MS) continue
      try {
        // Both are there when a crash came between the last two steps; another process may have written meanwhile.
        const compressed = times.get(`${archive.path}.gz`) ?? -1
        if (compressed >= archive.mtime.getTime()) await rm(archive.path, { force: true })
        else await gzip(archive)
      } catch (error) {
        // The next sweep tries again.
        if (isFull(error)) return
      }
    }
  }

  async function gzip({ path, size, mtime }: Archive): Promise<void> {
    const target = `${path}.gz.${randomInt(MAX_UNIQUE)}.tmp`
    temporary = target
    let source: FileHandle | undefined
    try {
      source = await open(path)
      const output = createWriteStream(target, { mode, flush: true })
      const input = source.createReadStream({ end: size - 1, autoClose: false })
      await pipeline(input, createGzip(), output, { signal: abort.signal })
      // Another process did not know yet that the file was rotated. It stays as it is, and the next sweep takes all of it.
      if ((await source.stat()).size > size) return await rm(target, { force: true })
      await utimes(target, mtime, mtime)
      await rename(target, `${path}.gz`)
      await rm(path)
      await keepTail(source, size)
    } catch (error) {
      await rm(target, { force: true })
      throw error
    } finally {
      temporary = undefined
      await source?.close()
    }
  }

  /** What another process has written in the last two steps. It writes again what it misses itself. */
  async function keepTail(source: FileHandle, from: number): Promise<void> {
    const { size } = await source.stat()
    if (size === from) return
    const tail = Buffer.alloc(size - from)
    await source.read(tail, 0, tail.length, from)
    await writeFile(stampedName(), tail, { mode, flag: 'wx' })
  }

  function stampedName(): string {
    return `${path}.${new Date().toISOString().replace(/[-:.]/g, '')}-${randomInt(MAX_UNIQUE)}`
  }

  return {
    name() {
      rotating = stampedName()
      return rotating
    },
    sweep() {
      rotating = undefined
      sweeping = sweep().catch(() => undefined)
      if (compress)
        compressing = Promise.all([compressing, sweeping])
          .then(compressAll)
          .catch(() => undefined)
      return sweeping
    },
    async close(deadlineMs) {
      await within(deadlineMs, Promise.all([sweeping, compressing]))
      abort.abort()
      await Promise.all([sweeping, compressing])
    }
  }
}

async function archiveAt(path: string): Promise<Archive | undefined> {
  const file = await stat(path).catch(() => undefined)
  return file?.isFile() ? { path, size: file.size, mtime: file.mtime } : undefined
}

/** The names that the template has given in other processes, and what they are followed by. */
function namesakesOf(template: string): RegExp | undefined {
  if (template.split(PID).length !== 2) return undefined
  const [before, after] = template.split(PID, 2).map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
  return new RegExp(`^${before}(\\d+)(?:-\\d+)?${after}(\\..*)?$`)
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH')
  }
}
