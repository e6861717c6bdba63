import { createReadStream, createWriteStream } from 'node:fs'
import { readdir, rename, rm, stat, utimes } from 'node:fs/promises'
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
}

/** What a log file leaves behind when it rotates, in this run of the process and in earlier ones. */
export interface Archives {
  /** The name for the file that rotates now, the first one or another when that is taken. */
  name(index: number): string
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

const STAMPED = /^\.\d{8}T\d{9}Z(-\d+)?(\.gz(\.tmp)?)?$/

/** `app.log` becomes `app.log.20261122T235959999Z` and that, compressed, `app.log.20261122T235959999Z.gz`. */
export function keepArchives(path: string, { compress, maxAgeMs, maxBytes, mode }: ArchiveRules): Archives {
  const folder = dirname(path)
  const base = basename(path)
  const abort = new AbortController()
  // The rotation probes its name with an empty file: not yet an archive.
  let rotating: string | undefined
  let sweeping = Promise.resolve()
  let compressing = Promise.resolve()
  let temporary: string | undefined

  /** The newest first. */
  async function list(): Promise<Archive[]> {
    const names = (await readdir(folder)).filter(
      (name) => name.startsWith(base) && STAMPED.test(name.slice(base.length))
    )
    const found = await Promise.all(names.map((name) => archiveAt(join(folder, name))))
    return found
      .filter((archive) => archive !== undefined)
      .filter((archive) => archive.path !== rotating && archive.path !== temporary)
      .sort((one, other) => other.mtime.getTime() - one.mtime.getTime() || (one.path < other.path ? 1 : -1))
  }

  async function sweep(): Promise<void> {
    let total = 0
    for (const { path, size, mtime } of await list()) {
      total += size
      const expired = Date.now() - mtime.getTime() > maxAgeMs
      if (size === 0 || expired || total > maxBytes || path.endsWith('.tmp')) await rm(path, { force: true })
    }
  }

  async function compressAll(): Promise<void> {
    const archives = await list()
    const paths = new Set(archives.map((archive) => archive.path))
    for (const archive of archives.reverse()) {
      if (abort.signal.aborted) return
      if (/\.(gz|tmp)$/.test(archive.path)) continue
      // Both are there when a crash came between the last two steps.
      if (paths.has(`${archive.path}.gz`)) await rm(archive.path, { force: true })
      else await gzip(archive)
    }
  }

  async function gzip({ path, mtime }: Archive): Promise<void> {
    const target = `${path}.gz.tmp`
    temporary = target
    try {
      const output = createWriteStream(target, { mode, flush: true })
      await pipeline(createReadStream(path), createGzip(), output, { signal: abort.signal })
      await utimes(target, mtime, mtime)
      await rename(target, `${path}.gz`)
      await rm(path)
    } catch (error) {
      await rm(target, { force: true })
      // The next sweep tries again.
      if (isFull(error)) throw error
    } finally {
      temporary = undefined
    }
  }

  return {
    name(index) {
      const stamp = new Date().toISOString().replace(/[-:.]/g, '')
      rotating = `${path}.${stamp}${index === 1 ? '' : `-${index}`}`
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
