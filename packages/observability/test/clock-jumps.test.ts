import { globSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Test, test } from 'tap'
import { start, startReceivers } from './process.ts'

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
  return { ...running, set, collector, logs }
}

/** A request that begins by one clock and ends by another. */
async function across({ origin, line, set }: Awaited<ReturnType<typeof service>>, jumps: number[]): Promise<void> {
  for (const [index, seconds] of jumps.entries()) {
    const held = fetch(`${origin}/held`)
    await line('held', index + 1)
    set(seconds)
    await (await fetch(`${origin}/release`)).text()
    await (await held).text()
  }
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
