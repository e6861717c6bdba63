import { Agent, get } from 'node:http'
import { text } from 'node:stream/consumers'
import { registryOf } from '@fastify-observability/observation/internal'
import Fastify from 'fastify'
import { test } from 'tap'
import logging, { createLogger, type LoggingOptions, logger } from '../src/index.ts'

type Line = Record<string, unknown>

const traceIdOf = (path: string): string => path.replace(/\D/g, '').padStart(32, 'a')

/** Answers 400 requests over 40 connections, a third of them with an error, and calls `end` in the end of each. */
async function answer(options: LoggingOptions, end: (path: string, lines: Line[]) => void): Promise<Line[]> {
  const lines: Line[] = []
  const write = (line: string): void => void lines.push(JSON.parse(line))
  const app = Fastify()
  await app.register(logging, { ...options, stream: { write } })
  registryOf(app).observe({
    name: 'test',
    start(observation) {
      observation.spanContext = { traceId: traceIdOf(observation.path), spanId: 'b'.repeat(16), traceFlags: 1 }
    },
    end: ({ path }) => end(path, lines)
  })
  app.get('/fine/:id', async () => 'ok')
  app.get('/boom/:id', async () => Promise.reject(new Error('boom')))
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })
  const agent = new Agent({ keepAlive: true, maxSockets: 40 })
  const paths = Array.from({ length: 400 }, (_, index) => (index % 3 === 0 ? `/boom/${index}` : `/fine/${index}`))
  await Promise.all(
    paths.map((path) => new Promise((done) => get(origin + path, { agent }, (answer) => done(text(answer)))))
  )
  agent.destroy()
  await app.close()
  // Without that of Fastify, which says where it listens.
  return lines.filter(({ path }) => path !== undefined)
}

const isOwn = ({ asked, path, trace_id }: Line): boolean => path === asked && trace_id === traceIdOf(String(asked))

test('carries the ids and the span of the own request on each of 400 lines of logger() in the end of requests', async (t) => {
  const lines = await answer({}, (asked) => logger().info({ asked }, 'ended'))
  t.equal(lines.filter((line) => line.msg === 'ended' && isOwn(line)).length, 400)
  t.equal(lines.length, 800)
})

test('carries them too on lines of createLogger()', async (t) => {
  const lines: Line[] = []
  const log = createLogger({ stream: { write: (line) => void lines.push(JSON.parse(line)) } })
  await answer({}, (asked) => log.info({ asked }, 'ended'))
  t.equal(lines.filter(isOwn).length, 400)
})

test('gives logger() the level of the own request in the end of each', async (t) => {
  const levelFor: LoggingOptions['levelFor'] = ({ url }) => (url.startsWith('/boom') ? 'debug' : undefined)
  const lines = await answer({ levelFor }, (asked) => logger().debug({ asked }, 'ended'))
  const ended = lines.filter(({ msg }) => msg === 'ended')
  t.equal(ended.length, 134)
  t.equal(ended.filter((line) => isOwn(line) && String(line.path).startsWith('/boom')).length, 134)
})

test('writes the line of a request in its end, before the event loop can be blocked by anything else', async (t) => {
  const late: string[] = []
  const lines = await answer({}, (ended, lines) => {
    process.nextTick(() => {
      if (!lines.some(({ path }) => path === ended)) late.push(ended)
    })
  })
  t.equal(lines.length, 400)
  t.same(late, [])
})
