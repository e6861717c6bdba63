import { setTimeout as wait } from 'node:timers/promises'
import { test } from 'tap'
import { start, statusOf } from './process.ts'

const SPARED = ['/health', '/health/startup', '/metrics', '/vital']

/** How long an answer of 200 took, in milliseconds. */
async function timed(url: string): Promise<number> {
  const startedAt = performance.now()
  return (await statusOf(url)) === 200 ? performance.now() - startedAt : Number.POSITIVE_INFINITY
}

test('answers liveness within a second after a block of two, and at 0.9 of its utilisation', async (t) => {
  const { origin } = await start(t, {}, 'pressed.ts')
  await statusOf(`${origin}/block`)
  await statusOf(`${origin}/busy`)
  const times: number[] = []
  for (let probe = 0; probe < 100; probe++) times.push(await timed(`${origin}/health`))
  const late = times.filter((ms) => ms > 1_000)
  t.ok(late.length <= 1, `${late.length} late, the slowest took ${Math.round(Math.max(...times))} ms`)
})

test('under pressure sheds the application with Retry-After, is not ready, and answers what it must', async (t) => {
  const { origin, lines, line } = await start(t, {}, 'pressed.ts')
  await statusOf(`${origin}/busy`)
  await line('under pressure')
  const shed = await fetch(`${origin}/orders`)
  t.match([shed.status, shed.headers.get('retry-after')], [503, '10'])
  t.match(await shed.json(), { code: 'FST_UNDER_PRESSURE' })
  const readiness = await fetch(`${origin}/health/ready`)
  t.match([readiness.status, await readiness.json()], [503, { status: 'not_ready', checks: { pressure: 'failed' } }])
  for (const path of SPARED) t.equal(await statusOf(origin + path), 200, path)
  t.match(await (await fetch(`${origin}/metrics`)).text(), /^health_check_up\{check="pressure"\} 0$/m)
  await wait(2_500)
  t.match(
    lines.filter(({ msg }) => msg === 'under pressure'),
    [{ level: 'warn', event_loop_utilization: Number, event_loop_delay_ms: Number, rss_bytes: Number }]
  )
  t.equal(lines.filter(({ msg }) => msg.includes('under pressure')).length, 1, 'in one line')
})

test('is at ease again after a block, and says so', async (t) => {
  const { origin, line } = await start(t, {}, 'pressed.ts')
  await statusOf(`${origin}/block`)
  await line('under pressure')
  await line('no longer under pressure')
  t.equal(await statusOf(`${origin}/orders`), 200)
  t.equal(await statusOf(`${origin}/health/ready`), 200)
})
