import { mock } from 'node:test'
import Fastify from 'fastify'
import { test } from 'tap'
import logging, { createLogger } from '../src/index.ts'

type Line = Record<string, unknown>

function array() {
  const lines: Line[] = []
  return { lines, stream: { write: (line: string) => void lines.push(JSON.parse(line)) } }
}

test('dates lines by a fake clock that begins at 0, stands still, and begins at 0 again', async (t) => {
  const { lines, stream } = array()
  const log = createLogger({ stream })
  t.teardown(() => mock.timers.reset())
  for (const advances of [
    [0, 0, 5],
    [0, 1_500]
  ]) {
    mock.timers.enable({ apis: ['Date'] })
    for (const ms of advances) {
      mock.timers.tick(ms)
      log.info('here')
    }
    mock.timers.reset()
  }
  const times = ['00.000', '00.000', '00.005', '00.000', '01.500'].map((time) => `1970-01-01T00:00:${time}Z`)
  t.same(
    lines.map(({ time }) => time),
    times
  )
})

test('writes JSON and no negative time when a fake clock of the handler goes back or is none', async (t) => {
  const { lines, stream } = array()
  const app = Fastify()
  await app.register(logging, { stream })
  const { now } = performance
  t.teardown(() => Object.assign(performance, { now }))
  app.get('/:ms', async (request) => void Object.assign(performance, { now: () => Number(Object(request.params).ms) }))
  for (const ms of ['0', '-7', 'none']) {
    await app.inject(`/${ms}`)
    Object.assign(performance, { now })
  }
  t.same(
    lines.map(({ duration_ms, ttfb_ms }) => [duration_ms, ttfb_ms]),
    [0, 1, 2].map(() => [0, 0])
  )
})
