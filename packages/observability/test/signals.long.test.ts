import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, utimesSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type CollectorOptions, startCollector } from '@fastify-observability/testing/collector'
import { STARVED_MS } from '@fastify-observability/testing/starvation'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import observability from '../src/index.ts'
import { type Service, start, startReceivers } from './process.ts'

const SCRIPT = 'unattended.ts'
const NODE = [process.execPath]
const END_MS = 2_000 + STARVED_MS
const TOO_LATE = 'the process ends and could not deliver everything'
const MOST_PLAYS = 5

/** A service without any option, a collector and an ingest. */
async function serve(t: Test, options: CollectorOptions = {}, env: NodeJS.ProcessEnv = {}, command: string[] = []) {
  const { collector, ingest, env: telemetry } = await startReceivers(t, options)
  return { collector, ingest, ...(await start(t, { ...telemetry, ...env }, SCRIPT, command)) }
}

/** How the process has ended, and whether that was in time. */
async function endOf({ child }: Pick<Service, 'child'>, signal: NodeJS.Signals, pid = child.pid ?? 0) {
  const startedAt = performance.now()
  process.kill(pid, signal)
  const [code, by] = await once(child, 'close')
  return { by: by ?? code, inTime: performance.now() - startedAt < END_MS }
}

/**
 * A service that was asked and then ended by the signal, and how it has ended. Played again where it says that it could not
 * deliver everything in time, as on a busy machine.
 */
async function endAfter(
  t: Test,
  signal: NodeJS.Signals,
  ask: (service: Service) => Promise<unknown>,
  env: NodeJS.ProcessEnv = {},
  command: string[] = [],
  pidOf = ({ pid }: ChildProcess) => pid
) {
  for (let plays = 1; ; plays++) {
    const service = await serve(t, {}, env, command)
    await ask(service)
    const end = await endOf(service, signal, pidOf(service.child))
    if (plays === MOST_PLAYS || !service.lines.some(({ msg }) => msg === TOO_LATE)) return { ...service, end }
  }
}

const askForOrder = ({ origin }: Service): Promise<unknown> => fetch(`${origin}/orders/7`)

const spanNames = (spans: readonly { name: string }[]): string[] => spans.map(({ name }) => name)

for (const waitMs of [5, 100, 1_000]) {
  test(`a signal ${waitMs} ms after an answer delivers line, span, points and event before it ends the process`, async (t) => {
    const service = await endAfter(t, 'SIGTERM', async ({ origin }) => {
      t.equal((await fetch(`${origin}/boom`)).status, 500)
      await wait(waitMs)
    })
    t.same(service.end, { by: 'SIGTERM', inTime: true })
    t.equal(service.lines.filter(({ route }) => route === '/boom').length, 1)
    t.same(spanNames(service.collector.spans), ['GET /boom'])
    t.ok(service.collector.points.some(({ name }) => name === 'http.server.request.duration'))
    t.match(service.ingest.events, [{ exception: { values: [{ value: 'boom' }] } }])
  })

  test(`a signal ${waitMs} ms after an answer ends the process in time while the collector hangs, and says what is lost`, async (t) => {
    const service = await serve(t, { answer: () => 'never' })
    await fetch(`${service.origin}/orders/7`)
    await wait(waitMs)
    t.same(await endOf(service, 'SIGINT'), { by: 'SIGINT', inTime: true })
    t.equal(service.lines.filter(({ route }) => route === '/orders/:id').length, 1)
    t.match(service.lines.at(-1), {
      msg: TOO_LATE,
      undelivered: { spans: { pending: 1, dropped: 0 } }
    })
  })
}

test('a signal ends a service that has neither collector nor DSN, with its last line', async (t) => {
  const service = await start(t, {}, SCRIPT)
  await fetch(`${service.origin}/orders/7`)
  t.same(await endOf(service, 'SIGTERM'), { by: 'SIGTERM', inTime: true })
  t.match(service.lines.at(-1), { msg: 'request completed', route: '/orders/:id' })
})

test('a signal ends the process in time where nobody listens on the port of the collector', async (t) => {
  const collector = await startCollector()
  await collector.close()
  const service = await start(t, { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }, SCRIPT)
  await fetch(`${service.origin}/orders/7`)
  t.same(await endOf(service, 'SIGTERM'), { by: 'SIGTERM', inTime: true })
  t.ok(service.lines.some(({ route }) => route === '/orders/:id'))
})

const UNSHARE = ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child']
const [unshare = '', ...isolated] = UNSHARE
const skip =
  spawnSync(unshare, [...isolated, 'true']).status === 0 ? false : 'unshare may not make a PID namespace here'

test('as the first process of a container it exits with 128 and the signal, with everything delivered', {
  skip
}, async (t) => {
  const service = await endAfter(t, 'SIGTERM', askForOrder, {}, [...UNSHARE, ...NODE], childOf)
  t.same(service.end, { by: 143, inTime: true })
  t.same(spanNames(service.collector.spans), ['GET /orders/:id'])
  t.ok(service.lines.some(({ route }) => route === '/orders/:id'))
})

function childOf({ pid }: ChildProcess): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim())
}

test('a process that takes itself for the first one exits with 128 and the signal (no container, its pid is set)', async (t) => {
  const service = await endAfter(t, 'SIGINT', askForOrder, { PID: '1' })
  t.same(service.end, { by: 130, inTime: true })
  t.same(spanNames(service.collector.spans), ['GET /orders/:id'])
})

for (const HANDLER of ['before', 'after']) {
  test(`a signal that the service listens to is left to it, by a listener added ${HANDLER} the plugin`, async (t) => {
    const service = await serve(t, {}, { HANDLER })
    await fetch(`${service.origin}/orders/7`)
    t.same(await endOf(service, 'SIGTERM'), { by: 7, inTime: true })
    t.ok(service.lines.some(({ route }) => route === '/orders/:id'))
  })
}

test('a second signal ends the process at once', async (t) => {
  const service = await serve(t, { answer: () => 'never' })
  await fetch(`${service.origin}/orders/7`)
  service.child.kill('SIGTERM')
  // Answered after the first signal has come.
  await fetch(`${service.origin}/orders/8`)
  t.same(await endOf(service, 'SIGINT'), { by: 'SIGINT', inTime: true })
  t.notOk(service.lines.some(({ msg }) => msg.startsWith('the process ends')))
  t.equal(service.lines.filter(({ route }) => route === '/orders/:id').length, 2)
})

test('a signal delivers what all apps of the process hold', async (t) => {
  const askAll = async ({ lines, line }: Service): Promise<void> => {
    await line('Server listening at ', 3)
    const origins = lines.flatMap(({ msg }) => /^Server listening at (.*)/.exec(msg)?.[1] ?? [])
    await Promise.all(origins.map((origin) => fetch(`${origin}/orders/7`)))
  }
  const service = await endAfter(t, 'SIGTERM', askAll, { APPS: '3' })
  t.same(service.end, { by: 'SIGTERM', inTime: true })
  t.equal(service.lines.filter(({ route }) => route === '/orders/:id').length, 3)
  t.equal(service.collector.spans.length, 3)
})

test('two copies of the package in a process deliver together, and end it once', async (t) => {
  const service = await endAfter(t, 'SIGTERM', askForOrder, { COPY: 'second' })
  t.same(service.end, { by: 'SIGTERM', inTime: true })
  t.same(spanNames(service.collector.spans), ['GET /orders/:id'])
})

test('node --watch restarts a service without losing what it held', async (t) => {
  const service = await serve(t, {}, {}, [...NODE, '--watch', '--watch-preserve-output'])
  await fetch(`${service.origin}/orders/7`)
  utimesSync(fileURLToPath(new URL(SCRIPT, import.meta.url)), new Date(), new Date())
  await service.collector.span(({ name }) => name === 'GET /orders/:id')
  await service.line('Server listening at ', 2)
  t.ok(service.lines.some(({ route }) => route === '/orders/:id'))
  // Killed, it would leave the service behind.
  t.match(await endOf(service, 'SIGTERM'), { inTime: true })
})

test('fifty apps in a process listen to a signal once, and no more when they have closed', async (t) => {
  const warnings: unknown[] = []
  const warned = (warning: unknown): void => void warnings.push(warning)
  process.on('warning', warned)
  const before = process.listenerCount('SIGTERM')
  const apps = await Promise.all(Array.from({ length: 50 }, readySilently))
  t.equal(process.listenerCount('SIGTERM'), before + 1)
  await Promise.all(apps.map((app) => app.close()))
  t.equal(process.listenerCount('SIGTERM'), before)
  await new Promise(setImmediate)
  process.off('warning', warned)
  t.same(warnings, [])
})

test('an app whose registration fails leaves no listener when it closes', async (t) => {
  const before = process.listenerCount('SIGINT')
  const app = Fastify()
  await t.rejects(async () =>
    app.register(observability, { logging: { level: 'silent' }, health: { paths: { liveness: '' } } })
  )
  await app.close()
  t.equal(process.listenerCount('SIGINT'), before)
})

async function readySilently(): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(observability, { logging: { level: 'silent' } })
  await app.ready()
  return app
}

test('a service in a worker thread listens to no signal, and the signal ends its process', async (t) => {
  const service = await start(t, { WORKER: 'true' }, SCRIPT)
  await fetch(`${service.origin}/orders/7`)
  await service.line('request completed')
  t.same(await endOf(service, 'SIGTERM'), { by: 'SIGTERM', inTime: true })
})

test('a process that has nothing more to do ends without closing its app', async (t) => {
  const service = spawn(process.execPath, [fileURLToPath(new URL(SCRIPT, import.meta.url))], {
    env: { ...process.env, IDLE: 'true' }
  })
  t.same(await once(service, 'close'), [0, null])
})
