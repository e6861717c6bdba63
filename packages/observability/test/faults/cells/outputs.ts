import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { mountDisk, noDisks } from '@fastify-observability/testing/disk'
import type { Cell } from '../cell.ts'
import { until } from '../patience.ts'
import { isMissing } from '../programs.ts'
import type { Stage } from '../stage.ts'

const ONE_MIB = 2 ** 20
const NOBODY = 65_534

/** Fills what is left of the disk. */
function fill(ballast: string): number {
  for (let size = ONE_MIB; size >= 1; size /= 2) {
    try {
      writeFileSync(ballast, Buffer.alloc(size), { flag: 'a' })
    } catch {
      // What fitted of it is written.
    }
  }
  return 1
}

function hangUp({ service }: Stage): void {
  service.child.kill('SIGHUP')
}

/** From which number on the process gets no descriptor. Needs the program `prlimit`. */
function limitDescriptors(pid: number, from: number): void {
  execFileSync('prlimit', [`--pid=${pid}`, `--nofile=${from}:`], { stdio: 'pipe' })
}

/** How many lines stand in a new file, as soon as there are any. */
async function linesAnew(stage: Stage): Promise<number> {
  await until(() => stage.newFileLines().length > 0)
  return stage.newFileLines().length
}

const files: Cell[] = [
  {
    name: 'log file: the disk is full',
    expected: 'whole lines; written again as soon as there is room',
    missing: noDisks,
    setting: async () => {
      const { folder, unmount } = mountDisk()
      return { folder, release: unmount }
    },
    begin({ folder }) {
      const ballast = join(folder, 'ballast')
      const strikes = fill(ballast)
      return () => {
        rmSync(ballast)
        return strikes
      }
    }
  },
  {
    name: 'log file: deleted',
    expected: 'a new one',
    begin(stage) {
      rmSync(stage.logFile)
      stage.loseFile()
      return () => linesAnew(stage)
    }
  },
  {
    name: 'log file: renamed, and a hangup a second later',
    expected: 'nothing lost, a new one',
    async begin(stage) {
      renameSync(stage.logFile, `${stage.logFile}.1`)
      await wait(1_000)
      hangUp(stage)
      return () => linesAnew(stage)
    }
  },
  {
    name: 'log file: its folder is deleted',
    expected: 'a new one in a new folder',
    setting: async () => {
      const above = mkdtempSync(join(tmpdir(), 'faults-'))
      const folder = join(above, 'logs')
      mkdirSync(folder)
      return { folder, release: () => rmSync(above, { recursive: true }) }
    },
    begin(stage) {
      rmSync(stage.folder, { recursive: true })
      stage.loseFile()
      return () => linesAnew(stage)
    }
  },
  {
    name: 'log file: forbidden when it is opened anew',
    expected: 'nothing lost: lines are held',
    setting: async () => {
      const folder = mkdtempSync(join(tmpdir(), 'faults-'))
      const isRoot = process.getuid?.() === 0
      if (isRoot) chownSync(folder, NOBODY, NOBODY)
      return { folder, release: () => rmSync(folder, { recursive: true }), ...(isRoot && { uid: NOBODY }) }
    },
    begin(stage) {
      renameSync(stage.logFile, `${stage.logFile}.1`)
      chmodSync(stage.folder, 0o555)
      hangUp(stage)
      return () => {
        const strikes = Number(stage.newFileLines().length === 0)
        chmodSync(stage.folder, 0o755)
        return strikes
      }
    }
  },
  {
    name: 'log file: no descriptors are left when it is opened anew',
    expected: 'no line lost: they are held; a connection that is open is served',
    missing: isMissing('prlimit', '--version'),
    loses: { events: 'the SDK opens a connection for each' },
    async begin(stage, traffic) {
      const { pid = 0 } = stage.service.child
      // Without a descriptor Sentry's SDK could not be loaded, which is not tried again.
      await until(() => stage.ingest.events.length > 0)
      traffic.tolerance = 'silence'
      // Those of the standard streams: whatever it closes, no descriptor comes free below.
      limitDescriptors(pid, 3)
      renameSync(stage.logFile, `${stage.logFile}.1`)
      hangUp(stage)
      return () => {
        const strikes = Number(stage.newFileLines().length === 0)
        limitDescriptors(pid, 1_024)
        traffic.tolerance = 'nothing'
        return strikes
      }
    }
  }
]

const standardOutput: Cell[] = [
  {
    name: 'standard output: closed',
    expected: 'file and records go on',
    loses: { lines: 'nobody reads them' },
    // What fits into the pipe.
    unread: { lines: 500 },
    isLasting: true,
    begin({ service }) {
      service.stdout.destroy()
      return () => 1
    }
  },
  {
    name: 'standard output: the reader stops',
    expected: 'nothing lost: lines are held',
    begin({ service }) {
      service.stdout.pause()
      const { length } = service.lines
      return () => {
        const strikes = Number(service.lines.length === length)
        service.stdout.resume()
        return strikes
      }
    }
  }
]

export const outputCells: Cell[] = [...files, ...standardOutput]
