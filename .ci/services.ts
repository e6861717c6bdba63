// Installs the packed packages beside each plugin and framework of `.ci/services`, as their users do, and asks each service:
// answer, line, span, metric and event must agree. Run after `pnpm build`, from the root; with a part of a name for some.
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:http2'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { type Collector, startCollector } from '../packages/testing/src/collector.ts'
import { type Ingest, startIngest } from '../packages/testing/src/ingest.ts'
import { type Ask, PROJECTS, type Service } from './services/expected.ts'
import { check, conclude, pack, publishedFolders } from './tarballs.ts'

interface Answer {
  status: number
  requestId: string | null
  body: string
}

type Line = Record<string, unknown>

interface Running {
  origin: string
  /** Resolves with the first line that matches. */
  line(matches: (line: Line) => boolean): Promise<Line>
  stop(): Promise<void>
}

interface Row {
  service: string
  request: string
  status: number
  route: string
  span: string
  error: string
}

const LISTENING = 'Server listening at '
const TIME_LIMIT_MS = 120_000
const PLAIN = { status: 200, route: '' }
const VERSION = '1.2.3'
const SUITE_METRICS = 'http_server_request_duration_seconds_count'

const run = promisify(execFile)
const work = await mkdtemp(join(tmpdir(), 'services-'))
const rows: Row[] = []

async function start(
  { file, args = [file], env }: Service,
  project: string,
  urls: NodeJS.ProcessEnv
): Promise<Running> {
  const child = spawn(process.execPath, args, {
    cwd: project,
    env: { PATH: process.env.PATH, OTEL_BSP_SCHEDULE_DELAY: '50', ...urls, ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  const lines: Line[] = []
  const arrivals = new EventEmitter<{ line: [] }>()
  const complaints = text(child.stderr)
  const ended = once(child, 'close')
  createInterface({ input: child.stdout }).on('line', (written) => {
    lines.push(written.startsWith('{') ? JSON.parse(written) : { msg: written })
    arrivals.emit('line')
  })
  async function line(matches: (line: Line) => boolean): Promise<Line> {
    const signal = AbortSignal.timeout(TIME_LIMIT_MS)
    for (;;) {
      const found = lines.find(matches)
      if (found) return found
      const seen = await Promise.race([once(arrivals, 'line', { signal }), ended.then(() => 'ended')])
      if (seen === 'ended') assert.fail(`${file} has ended: ${await complaints}`)
    }
  }
  async function stop(): Promise<void> {
    child.kill('SIGKILL')
    await ended
  }
  try {
    const { msg } = await line(({ msg }) => String(msg).startsWith(LISTENING))
    return { origin: String(msg).slice(LISTENING.length), line, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function request(origin: string, ask: Ask): Promise<Answer> {
  if (ask.over === 'websocket') return await talk(origin, ask.path)
  if (ask.over === 'http2') return await askHttp2(origin, ask.path)
  const { method = 'GET', headers, body } = ask
  const answer = await fetch(origin + ask.path, { method, headers, body, redirect: 'manual' })
  return { status: answer.status, requestId: answer.headers.get('x-request-id'), body: await answer.text() }
}

async function talk(origin: string, path: string): Promise<Answer> {
  const socket = new WebSocket(origin.replace('http', 'ws') + path)
  await once(socket, 'open')
  socket.send('hello')
  const [{ data }] = await once(socket, 'message')
  socket.close()
  // The WebSocket of browsers shows no headers.
  return { status: 101, requestId: null, body: data }
}

async function askHttp2(origin: string, path: string): Promise<Answer> {
  const session = connect(origin)
  try {
    const stream = session.request({ ':path': path })
    const [headers] = await once(stream, 'response')
    return { status: headers[':status'], requestId: headers['x-request-id'], body: await text(stream) }
  } finally {
    session.close()
  }
}

/** How often the suite's metrics have counted a request like this line's. */
function countIn(exposition: string, { method, route, status_code }: Line, errorType: string): number {
  const labels = [
    `http_request_method="${method}"`,
    `http_route="${route}"`,
    `http_response_status_code="${status_code}"`,
    `error_type="${errorType}"`
  ]
  const series = exposition.split('\n').find((row) => {
    return row.startsWith(`${SUITE_METRICS}{`) && labels.every((label) => row.includes(label))
  })
  return Number(series?.split(' ')[1] ?? 0)
}

/** As `error.type` has it: an error of a 4xx is only in the line. */
function nameOf(error: unknown): unknown {
  if (typeof error !== 'object' || error === null) return undefined
  return Reflect.get(error, 'code') ?? Reflect.get(error, 'type')
}

async function checkAsk(
  running: Running,
  project: string,
  service: Service,
  ask: Ask,
  collector: Collector,
  ingest: Ingest
): Promise<void> {
  const { status, route, error, name, answered } = ask
  let answer = await request(running.origin, ask)
  while (ask.eventually && answer.status !== status) answer = await request(running.origin, ask)
  assert.equal(answer.status, status)
  if (answered) assert.match(answer.body, answered)
  const path = ask.path.split('?', 1)[0]
  const line = await running.line((line) => {
    const isOfAnswer = answer.requestId === null ? line.path === path : line.request_id === answer.requestId
    return isOfAnswer && line.msg === 'request completed' && line.status_code !== undefined
  })
  assert.deepEqual({ status: line.status_code, route: line.route, path: line.path }, { status, route, path })
  assert.deepEqual([line.service, line.version], [project, VERSION], 'the package.json of the service')
  if (ask.over !== 'websocket') assert.equal(line.request_id, answer.requestId, 'the id of the answer')
  if (ask.forwards) assert.equal(JSON.parse(answer.body)['x-request-id'], line.request_id, 'the id of the upstream')

  const span = await collector.span(({ attributes, kind }) => {
    return kind === 'SERVER' && attributes['request.id'] === line.request_id
  })
  const { attributes } = span
  assert.deepEqual(
    {
      trace: span.traceId,
      span: span.spanId,
      status: attributes['http.response.status_code'],
      route: attributes['http.route'] ?? 'unmatched',
      path: attributes['url.path'],
      error: attributes['error.type']
    },
    { trace: line.trace_id, span: line.span_id, status, route, path, error }
  )
  assert.equal(span.name, name ?? (route === 'unmatched' ? line.method : `${line.method} ${route}`))
  assert.equal(span.status, error ? 'ERROR' : 'UNSET')

  const { metrics = '/metrics' } = service
  const { body } = await request(running.origin, {
    ...PLAIN,
    path: metrics,
    over: ask.over === 'http2' ? 'http2' : undefined
  })
  assert.ok(countIn(body, line, error ?? '') > 0, 'the metric')
  if (status < 400 || status >= 500) assert.equal(nameOf(line.err), error, 'the error of the line')
  if (error && !ask.shed) {
    const event = await ingest.event(({ tags }) => tags?.request_id === line.request_id)
    assert.deepEqual(
      { trace: event.contexts?.trace?.trace_id, transaction: event.transaction, status: event.tags?.status_code },
      { trace: line.trace_id, transaction: `${line.method} ${route}`, status }
    )
  } else assert.ok(!ingest.events.some(({ tags }) => tags?.request_id === line.request_id), 'an event without an error')
  rows.push({
    service: service.title ?? service.file,
    request: `${line.method} ${ask.path}`,
    status,
    route,
    span: span.name,
    error: error ?? ''
  })
}

async function checkService(service: Service, project: string): Promise<void> {
  const title = service.title ?? service.file
  const [collector, ingest] = await Promise.all([startCollector(), startIngest()])
  let running: Running | undefined
  await check(`${title} starts`, async () => {
    running = await start(service, project, { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, SENTRY_DSN: ingest.dsn })
  })
  for (const ask of running ? service.asks : []) {
    const { method = 'GET', path, status } = ask
    await check(`${title}: answer, line, span, metric and event of ${method} ${path} agree on ${status}`, async () => {
      assert.ok(running)
      const late = AbortSignal.timeout(TIME_LIMIT_MS)
      await Promise.race([
        checkAsk(running, basename(project), service, ask, collector, ingest),
        once(late, 'abort').then(() => assert.fail('no span or no event came in time'))
      ])
    })
  }
  await running?.stop()
  await Promise.all([collector.close(), ingest.close()])
}

const names = [...(await publishedFolders()).keys()]
let tarballs: string[] = []
await check(`packs ${names.join(', ')}`, async () => {
  tarballs = (await pack(names, work)).map(({ filename }) => filename)
})
const only = process.argv[2]
for (const { name, packages, services } of PROJECTS) {
  const wanted = services.filter(({ file, title = file }) => !only || title.includes(only))
  if (wanted.length === 0) continue
  const project = join(work, name)
  await check(`${name}: npm installs the tarballs beside ${packages.join(', ')}`, async () => {
    await cp('.ci/services', project, { recursive: true })
    const manifest = { name, version: VERSION, private: true, type: 'module' }
    await writeFile(join(project, 'package.json'), JSON.stringify(manifest))
    await run('npm', ['install', '--no-audit', '--no-fund', ...tarballs, ...packages], { cwd: project })
  })
  for (const service of wanted) {
    if (service.compile) {
      await check(`${service.file}: compiles`, async () => {
        await run('tsc', ['-p', join(project, 'tsconfig.json')])
      })
    }
    await checkService(service, project)
  }
}
console.table(rows)
await rm(work, { recursive: true })
conclude()
