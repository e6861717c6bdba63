import { globSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { type Test, test } from 'tap'
import { type Line, start, startReceivers } from './process.ts'

const DAY_S = 86_400
const PATIENCE_S = 600
const [library] = globSync('/usr/lib/*/faketime/libfaketimeMT.so.1')
const skip = library ? false : 'libfaketime is not installed'

/** A service whose clock is ahead by as many seconds as `set` says. */
async function service(t: Test, aheadS: number) {
  const folder = t.testdir({ logs: {} })
  const clock = join(folder, 'clock')
  const set = (seconds: number): void => {
    writeFileSync(`${clock}.new`, `${seconds < 0 ? '' : '+'}${seconds}`)
    renameSync(`${clock}.new`, clock)
  }
  set(aheadS)
  const { collector, env } = await startReceivers(t)
  const faked = {
    LD_PRELOAD: library,
    FAKETIME_TIMESTAMP_FILE: clock,
    FAKETIME_NO_CACHE: '1',
    DONT_FAKE_MONOTONIC: '1'
  }
  const logs = join(folder, 'logs')
  const running = await start(t, { ...env, ...faked, LOG_FILE: join(logs, 'app.log') }, 'clocked.ts')
  if (!isShown(running.lines[0], aheadS)) throw new Error(`the clock is not ${aheadS} s ahead`)
  return { ...running, t, set, collector, logs }
}

/** Whether the line was written by a clock that is so far ahead. */
function isShown(line: Line | undefined, aheadS: number): boolean {
  return isSane((Date.now() - Date.parse(String(line?.time))) / 1000 + aheadS)
}

/** A request that begins by one clock and ends by another. */
async function across({ t, origin, line, set }: Awaited<ReturnType<typeof service>>, jumps: number[]): Promise<void> {
  for (const [index, seconds] of jumps.entries()) {
    const held = fetch(`${origin}/held`)
    await line('held', index + 1)
    set(seconds)
    await (await fetch(`${origin}/release`)).text()
    await (await held).text()
    t.ok(isShown(await line('request completed', 2 * index + 2), seconds), `the clock is ${seconds} s ahead`)
  }
}

/** What is in the files. The compression of one may have been broken off at the end: the next process does it anew. */
function logged(folder: string): { name: string; day: string; msg: string }[] {
  const names = readdirSync(folder).filter((name) => !name.endsWith('.tmp'))
  const whole = names.filter((name) => !names.includes(`${name}.gz`))
  return whole.flatMap((name) => {
    const bytes = readFileSync(join(folder, name))
    const lines = (name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString().trim().split('\n')
    return lines.map((line) => JSON.parse(line)).map(({ time, msg }) => ({ name, day: time.slice(0, 10), msg }))
  })
}

const isSane = (seconds: number): boolean => seconds >= 0 && seconds < PATIENCE_S
const JUMPS = [-3600, 3600, 0, 7200]

test('measures no negative or huge time while the clock is set back and forward by hours', { skip }, async (t) => {
  const running = await service(t, 0)
  await across(running, JUMPS)
  const metrics = await (await fetch(`${running.origin}/metrics`)).text()
  running.child.kill('SIGTERM')
  t.equal(await running.ended, 0)
  const measured = running.lines
    .flatMap(({ duration_ms, ttfb_ms }) => [duration_ms, ttfb_ms])
    .filter((ms) => ms !== undefined)
  t.ok(measured.length >= 16)
  t.ok(measured.every((ms) => isSane(Number(ms) / 1000)))
  const sums = [...metrics.matchAll(/^\w+_seconds_sum(?:\{.*\})? (.+)$/gm)].map(([, sum]) => Number(sum))
  t.ok(sums.length > 0 && sums.every(isSane), `sums ${sums}`)
  t.match(metrics, /^http_server_request_duration_seconds_count\{.*http_route="\/held".*\} 4$/m)
})

test('exports spans, events and points with times that the clock has shown, none of which ends before it begins', {
  skip
}, async (t) => {
  const running = await service(t, 0)
  await across(running, JUMPS)
  running.child.kill('SIGTERM')
  t.equal(await running.ended, 0)
  const { spans, points } = running.collector
  const wasShown = (ms: number): boolean => JUMPS.some((seconds) => isSane((Date.now() - ms) / 1000 + seconds))
  t.equal(spans.filter(({ name }) => name === 'GET /held').length, 4)
  t.ok(spans.every(({ startMs, durationMs }) => wasShown(startMs) && isSane(durationMs / 1000)))
  t.ok(spans.flatMap(({ events }) => events).every(({ timeMs }) => wasShown(timeMs)))
  t.ok(points.length > 0 && points.every(({ timeMs }) => wasShown(timeMs)))
  t.same(
    points.filter(({ startTimeMs, timeMs }) => startTimeMs > timeMs).map(({ name }) => name),
    []
  )
})

for (const way of ['passes', 'is set over'] as const) {
  test(`begins a file with the day, and loses no line, when the clock ${way} midnight`, { skip }, async (t) => {
    const toMidnight = DAY_S - ((Date.now() / 1000) % DAY_S)
    const running = await service(t, toMidnight - 3600)
    await across(running, [toMidnight - 1800, toMidnight + (way === 'passes' ? -2 : 60)])
    const today = (): unknown => running.lines.at(-1)?.time
    const before = String(running.lines[0]?.time).slice(0, 10)
    while (String(today()).startsWith(before)) await (await fetch(`${running.origin}/release`)).text()
    running.child.kill('SIGTERM')
    t.equal(await running.ended, 0)
    const lines = logged(running.logs)
    t.same(lines.map(({ msg }) => msg).sort(), running.lines.map(({ msg }) => msg).sort())
    const daysOf = (isCurrent: boolean) =>
      new Set(lines.filter(({ name }) => (name === 'app.log') === isCurrent).map(({ day }) => day))
    t.same([...daysOf(false)], [before])
    t.equal([...daysOf(true)].filter((day) => day !== before).length, 1)
  })
}
