import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { registryOf } from '@fastify-observability/observation/internal'
import { mountDisk, noDisks } from '@fastify-observability/testing/disk'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import Fastify from 'fastify'
import { test } from 'tap'
import logging from '../src/index.ts'

const REQUESTS = 300
const LINES = 100
const TEXT = 'x'.repeat(1000)

test('fails no request while the disk is full, counts what is lost, and resumes when there is room', {
  skip: noDisks
}, async (t) => {
  const { folder, unmount } = mountDisk()
  t.teardown(unmount)
  const [file, ballast] = [join(folder, 'app.log'), join(folder, 'ballast')]
  writeFileSync(ballast, Buffer.alloc(600 * 1024))
  const app = Fastify()
  await app.register(logging, { file, stream: { write: () => undefined } })
  app.get('/', async (request) => {
    for (let line = 0; line < LINES; line++) request.log.info({ line }, TEXT)
    return 'ok'
  })
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })
  for (let request = 0; request < REQUESTS; request++) {
    const { status } = await fetch(origin)
    if (status !== 200) t.fail(`request ${request}: ${status}`)
  }
  const full = statSync(file).size
  rmSync(ballast)
  const resumed = AbortSignal.timeout(PATIENCE_MS)
  while (statSync(file).size <= full && !resumed.aborted) await wait(20)
  t.ok(statSync(file).size > full, 'resumes')
  const counted = (name: string): number => {
    const series = registryOf(app).published.find((series) => series.name === name)
    return [...(series?.collect() ?? [])].reduce((sum, [, count]) => sum + count, 0)
  }
  await app.close()
  const written = readFileSync(file, 'utf8').split('\n').slice(0, -1)
  for (const line of written) JSON.parse(line)
  t.ok(counted('log_lines_dropped_total') > 0)
  t.equal(written.length + counted('log_lines_dropped_total'), counted('log_lines_total'))
})
