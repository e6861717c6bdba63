// A process that writes numbered lines to a sink and tells on standard error how it fared.
import { once } from 'node:events'
import { writeSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate as turn } from 'node:timers/promises'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { type FileOptions, openFile } from '../src/file.ts'
import { standardOutput } from '../src/sink.ts'

export interface Task {
  /** Instead of standard output. */
  file?: FileOptions
  lines: number
  /** The number of the first line. */
  from?: number
  /** How the process ends after the last line. */
  end: 'close' | 'exit' | 'throw' | 'nothing'
  closeMs?: number
  /** For a process whose clock stands still. */
  frozen?: boolean
  /** For a process in which it is soon midnight. */
  midnightInMs?: number
  /** Lines to write as soon as something comes on standard input; standard output is closed before. */
  again?: number
}

export interface Report {
  dropped: Record<string, number>
  stallMs: number
  rssGrowth: number
}

const BATCH = 200
const DAY_MS = 86_400_000
const {
  file,
  lines,
  from = 0,
  end,
  closeMs = PATIENCE_MS,
  frozen,
  midnightInMs,
  again = 0
}: Task = JSON.parse(process.argv[2] ?? '')
if (frozen) Object.assign(performance, { now: () => 0 })
if (midnightInMs) {
  const ahead = DAY_MS - (Date.now() % DAY_MS) - midnightInMs
  globalThis.Date = new Proxy(Date, {
    construct: (target, time) => Reflect.construct(target, time.length ? time : [target.now() + ahead]),
    get: (target, name) => (name === 'now' ? () => target.now() + ahead : Reflect.get(target, name))
  })
}
const sink = file ? openFile(file) : standardOutput()
const filling = 'x'.repeat(480)
const delay = monitorEventLoopDelay({ resolution: 1 })
let rssGrowth = 0

function tell(message: unknown): void {
  writeSync(2, `${JSON.stringify(message)}\n`)
}

process.on('exit', () => {
  if (end !== 'close') sink.flushSync()
  const report: Report = { dropped: Object.fromEntries(sink.dropped), stallMs: delay.max / 1e6, rssGrowth }
  tell(report)
})

async function write(first: number, count: number): Promise<void> {
  const rss = process.memoryUsage.rss()
  for (let line = first; line < first + count; line++) {
    sink.write(`{"n":${line},"x":"${filling}"}\n`)
    if (line % BATCH > 0) continue
    await turn()
    rssGrowth = Math.max(rssGrowth, process.memoryUsage.rss() - rss)
  }
  tell('written')
}

await turn()
delay.enable()
await write(from, lines)
if (again) {
  // Standard output stays open.
  if (!file) await sink.close(closeMs)
  tell('waiting')
  await once(process.stdin, 'data')
  process.stdin.destroy()
  await write(from + lines, again)
}
if (end === 'close') await sink.close(closeMs)
if (end === 'exit') process.exit()
if (end === 'throw') throw new Error('crash')
