// An app under each of a runner's fake clocks: it answers, its lines are JSON, no time of them is negative, and it closes.
import assert from 'node:assert/strict'
import Fastify from 'fastify'
import observability from 'fastify-observability'

/** Calls `fake` before the app is made, before it is asked, and within a handler. */
export function clocks(test, fake, restore) {
  for (const moment of ['register', 'inject', 'handler']) {
    test(`a fake clock from the ${moment} on`, async () => {
      try {
        await exercise((now) => now === moment && fake())
      } finally {
        restore()
      }
    })
  }
}

async function exercise(reach) {
  const lines = []
  reach('register')
  const app = Fastify()
  await app.register(observability, { logging: { stream: { write: (line) => lines.push(JSON.parse(line)) } } })
  app.get('/', async () => {
    reach('handler')
    return 'found'
  })
  await app.ready()
  reach('inject')
  const { body, headers } = await app.inject('/')
  const { body: metrics } = await app.inject('/metrics')
  await app.close()
  assert.equal(body, 'found')
  assert.match(headers['server-timing'], /^total;dur=\d+\.\d,/)
  assert.doesNotMatch(metrics, /_seconds_sum\S* (-|NaN)/)
  const { time, duration_ms } = lines.find(({ msg }) => msg === 'request completed')
  assert.ok(new Date(time).getTime() >= 0 && duration_ms >= 0, `${time} ${duration_ms}`)
}
