import { setTimeout as wait } from 'node:timers/promises'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { test } from 'tap'
import { start, statusOf } from './process.ts'

const SPARED = ['/health', '/health/startup', '/metrics', '/vital']

/** How long an answer of 200 took, in milliseconds. */
async function timed(url: string): Promise<number> {
  const startedAt = performance.now()
  return (await statusOf(url)) === 200 ? performance.now() - startedAt : Number.POSITIVE_INFINITY
}

/** Asks until the answer is the wanted one: while a busy machine has the service sleep, it is at ease. */
async function becomes(url: string, status: number, text = /^/): Promise<{ headers: Headers; body: string }> {
  for (const deadline = AbortSignal.timeout(PATIENCE_MS); ; await wait(20)) {
    const response = await fetch(url)
    const body = await response.text()
    if (response.status === status && text.test(body)) return { headers: response.headers, body }
    if (deadline.aborted) throw new Error(`${url} answers with ${response.status}: ${body}`)
  }
}

test('answers liveness within a second after a block of two, and at 0.9 of its utilisation', async (t) => {
  const { origin } = await start(t, {}, 'pressed.ts')
  await statusOf(`${origin}/block`)
  await statusOf(`${origin}/busy`)
  const times: number[] = []
  for (let probe = 0; probe < 100; probe++) times.push(await timed(`${origin}/health`))
  t.ok(times.every(Number.isFinite), 'each is 200')
  const late = times.filter((ms) => ms > 1_000)
  // Those that a stall of the machine delays are few.
  t.ok(late.length < 50, `${late.length} late, the slowest took ${Math.round(Math.max(...times))} ms`)
})

test('under pressure sheds the application with Retry-After, is not ready, and answers what it must', async (t) => {
  const { origin, lines, line } = await start(t, {}, 'pressed.ts')
  await statusOf(`${origin}/busy`)
  await line('under pressure')
  const shed = await becomes(`${origin}/orders`, 503)
  t.equal(shed.headers.get('retry-after'), '10')
  t.match(JSON.parse(shed.body), { code: 'FST_UNDER_PRESSURE' })
  const readiness = await becomes(`${origin}/health/ready`, 503)
  t.match(JSON.parse(readiness.body), { status: 'not_ready', checks: { pressure: 'failed' } })
  for (const path of SPARED) t.equal(await statusOf(origin + path), 200, path)
  await becomes(`${origin}/metrics`, 200, /^health_check_up\{check="pressure"\} 0$/m)
  await wait(2_500)
  const said = lines.filter(({ msg }) => msg.includes('under pressure'))
  t.match(said[0], {
    level: 'warn',
    msg: 'under pressure',
    event_loop_utilization: Number,
    event_loop_delay_ms: Number,
    rss_bytes: Number
  })
  t.ok(
    said.every(({ msg }, index) => msg !== said[index - 1]?.msg),
    'in one line each time'
  )
})

test('is at ease again after a block, and says so', async (t) => {
  const { origin, line } = await start(t, {}, 'pressed.ts')
  let pressed = false
  const said = line('under pressure').then(() => {
    pressed = true
  })
  // One block that begins late in a second is not enough for the mean of that sample.
  while (!pressed) await statusOf(`${origin}/block`)
  await said
  await line('no longer under pressure')
  await becomes(`${origin}/orders`, 200)
  await becomes(`${origin}/health/ready`, 200)
})
