import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { get } from 'node:http'
import { text } from 'node:stream/consumers'
import { startCollector } from '@fastify-observability/testing/collector'
import { withEnv } from '@fastify-observability/testing/environment'
import { startIngest } from '@fastify-observability/testing/ingest'
import * as Sentry from '@sentry/node'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import observability, { type ObservabilityOptions, observe, withSpan } from '../src/index.ts'
import { clientError, FORMS, HEADERS, HOLDERS, QUERIES, STATEMENTS, THROWN, VALUES } from './planted-secrets.ts'

/** A secret that is planted nowhere else, so that one that is found says where it was. */
type Plant = (place: string) => string
type Destinations = Record<string, string>

type Variant = ObservabilityOptions & { logging: object; sentry: object }

export const VARIANTS: Record<string, Variant> = {
  'lines as JSON, spans over OTLP': { logging: { format: 'json', otlp: true }, sentry: {} },
  'lines for people, spans to Sentry': {
    logging: { format: 'pretty', otlp: true },
    sentry: { tracesSampleRate: 1 },
    tracing: false
  }
}
// Two events each: Sentry's part holds 64.
const FORMS_HELD = 20
const LIMITS = { maxEventsPerMinute: 10_000, maxEqualEventsPerMinute: 10_000 }

const ALL_THROWN = Object.entries({ ...HOLDERS, ...THROWN })

/** Checks of which every second one fails, and one for each value that is thrown. */
function checksOf(plant: Plant) {
  const entries = Object.entries(FORMS).map(([form, textOf], index) => {
    const check = async () => {
      if (index % 2) throw new Error(textOf(plant(`${form}, a check that fails`)))
      return { note: textOf(plant(`${form}, a detail`)), password: plant('a detail that is named') }
    }
    return [`check${index}`, { critical: false, check }]
  })
  const throwing = ALL_THROWN.map(([kind, make], index) => {
    const check = () => Promise.reject(make(plant(`${kind}, thrown by a check`)))
    return [`throws${index}`, { critical: false, check }]
  })
  return Object.fromEntries([...entries, ...throwing])
}

/** A service that sends all it can to wherever it can. */
async function service(t: Test, { logging, sentry, ...options }: Variant, plant: Plant) {
  const [collector, ingest] = [await startCollector(), await startIngest()]
  const lines: string[] = []
  const file = `${t.testdir()}/app.log`
  const stream = { write: (line: string) => void lines.push(line) }
  const endpoint = `${collector.url.replace('//', `//me:${plant('the user of an endpoint')}@`)}/?token=${plant('an endpoint')}`
  const app = Fastify()
  t.teardown(() => Promise.all([collector.close(), ingest.close()]))
  withEnv(t, { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_BSP_SCHEDULE_DELAY: '10' })
  await app.register(observability, {
    service: { name: 'orders', version: '1.0.0' },
    metrics: { otlp: true },
    health: { details: 'always', checks: checksOf(plant) },
    ...options,
    logging: { level: 'trace', stream, file, redact: ['licence'], ...logging },
    sentry: { dsn: ingest.dsn, tagFields: ['note'], ...LIMITS, ...sentry }
  })
  async function destinations(): Promise<Destinations> {
    const [metrics, health] = [await app.inject('/metrics'), await app.inject('/health/ready')]
    const report = JSON.stringify(app.observability.report())
    await app.close()
    return {
      metrics: metrics.body,
      health: health.body,
      report,
      stream: lines.join(''),
      file: await readFile(file, 'utf8'),
      spans: JSON.stringify(collector.spans),
      records: JSON.stringify(collector.logs),
      points: JSON.stringify(collector.points),
      events: ingest.envelopes.join('\n')
    }
  }
  return { app, destinations }
}

/** All that a text says in an encoding. */
function decoded(text: string): string {
  const percent = text.replace(/\\+u00([0-9a-f]{2})/gi, '%$1')
  const plain = percent.replace(/%(?:25)*([0-9a-f]{2})/gi, (_match, hex: string) =>
    Buffer.from(hex, 'hex').toString('latin1')
  )
  const words = [...new Set(text.match(/[\w+/-]{12,}/g))]
  const base64 = words.flatMap((word) => [0, 1, 2, 3].map((offset) => Buffer.from(word.slice(offset), 'base64')))
  const hex = Array.from(new Set(text.match(/[0-9a-f]{16,}/gi)), (word) => Buffer.from(word, 'hex'))
  return [text, plain, ...[...base64, ...hex].map((bytes) => bytes.toString('latin1'))].join('\n')
}

/** Runs a service full of secrets, and says where which of them came out. */
export async function leaks(
  t: Test,
  variant: Variant,
  use: (app: FastifyInstance, plant: Plant) => Promise<void>
): Promise<{ planted: number; found: string[] }> {
  const places: string[] = []
  const plant: Plant = (place) => `Plant${places.push(place) - 1}Zq`
  const { app, destinations } = await service(t, variant, plant)
  await use(app, plant)
  const all = Object.entries(await destinations())
  for (const [name, { length }] of all) t.ok(length > 100 || (name === 'spans' && variant.tracing === false), name)
  const found = all.flatMap(([name, said]) => {
    const indices = new Set(Array.from(decoded(said).matchAll(/Plant(\d+)Zq/g), ([, index]) => Number(index)))
    return Array.from(indices, (index) => `${name}: ${places[index]}`)
  })
  return { planted: places.length, found }
}

/** The places where an application puts a text. */
function putText(app: FastifyInstance, text: Plant): void {
  app.log.child({ note: text('a binding') }).info(text('a message'))
  app.log.info({ note: text('a field'), list: [text('an item')], map: new Map([['note', text('a map')]]) }, 'fields')
  app.log.info({ set: new Set([text('a set')]), own: { toJSON: () => ({ note: text('toJSON') }) } }, 'objects')
  app.log.warn('placeholder %s and %j', text('%s'), { note: text('%j') })
  app.log.error(new AggregateError([new Error(text('a part of an error'))], text('an AggregateError')))
  Sentry.addBreadcrumb({ message: text('a breadcrumb'), data: { note: text('data of a breadcrumb') } })
  Sentry.setTag('note', text('a tag').slice(0, 200))
  Sentry.setExtra('note', { deep: [text('an extra')] })
  Sentry.setContext('payment', { note: text('a context') })
  Sentry.setUser({ id: '7', note: text('the user'), profile: { note: text('the profile of a user') } })
  const context = { traceId: '1'.repeat(32), spanId: '2'.repeat(16), traceFlags: 1 }
  withSpan('mine', { note: text('an attribute'), list: [text('a list of attributes')] }, (span) => {
    span.addEvent(text('the name of an event'), { note: text('an event') })
    span.addLink({ context, attributes: { note: text('a link') } })
    span.recordException(new Error(text('a recorded exception')))
    span.setStatus({ code: 2, message: text('a status') })
  })
}

/** The places where an application puts what is no text. */
function putValue(app: FastifyInstance, name: string, value: (place: string) => unknown): void {
  app.log.info({ [name]: value('a field'), deep: { deeper: [{ [name]: value('a deep field') }] } }, 'fields')
  app.log.child({ [name]: value('a binding') }).info('it is %j', { [name]: value('%j') })
  app.log.error(Object.assign(new Error('it failed'), { [name]: value('a property of an error') }))
  Sentry.setExtra(name, value('an extra'))
  Sentry.setExtra('deep', { [name]: value('a deep extra') })
  Sentry.setContext('payment', { [name]: value('a context') })
  Sentry.setUser({ id: '7', [name]: value('the user'), profile: { [name]: value('the profile of a user') } })
  Sentry.addBreadcrumb({ message: 'a breadcrumb', data: { [name]: value('a breadcrumb') } })
  const attributes = { [name]: value('an attribute') }
  withSpan('mine', Object(attributes), (span) => void span.addEvent('event', Object({ [name]: value('an event') })))
}

/** What an application does with a request. */
function useRequest(app: FastifyInstance, plant: Plant): void {
  app.get('/orders', async (request, reply) => {
    const { headers, raw, url } = request
    reply.header('set-cookie', `sid=${plant('set-cookie')}`)
    request.log.info({ headers, raw, req: request, reply, sent: reply.getHeaders() }, 'asked')
    request.log.info(headers, `asked for ${url} with ${JSON.stringify(headers)} and ${raw.rawHeaders.join(': ')}`)
    const [called, signed] = [`token=${plant('fetch')}&code=${plant('fetch, code')}`, `sig=${plant('http')}`]
    await fetch(`${app.listeningOrigin}/health?${called}`, { headers: { authorization: plant('fetch, header') } })
    await ask(`${app.listeningOrigin.replace('//', `//me:${plant('http, user')}@`)}/health`, `/health?${signed}`, {})
    throw clientError(plant('an error of a client'))
  })
}

/** The path goes as it is, without a client's encoding. */
async function ask(origin: string, path: string, headers: Record<string, string>): Promise<void> {
  const [response] = await once(get(origin, { path, headers }), 'response')
  await text(response)
}

/** The tests of what leaves a service in these variants. */
export function secrets(test: Test['test'], variants: [name: string, Variant][]): void {
  for (const [name, variant] of variants) {
    test(`sends nothing of texts with secrets in ${Object.keys(FORMS).length} forms, wherever they stand: ${name}`, async (t) => {
      const { planted, found } = await leaks(t, variant, async (app, plant) => {
        app.get('/:form', async ({ params, observation }) => {
          const form = String(Object(params).form)
          const textOf: Plant = (place) => FORMS[form]?.(plant(`${form}, ${place}`)) ?? ''
          putText(app, textOf)
          observation.add({ note: textOf('an added field'), notes: [textOf('an added list')] })
          const fails = () => Promise.reject(new Error(textOf('the error of a job')))
          await observe('import', { attributes: { note: textOf('an attribute of a job') } }, fails).catch(
            () => undefined
          )
          throw new Error(textOf('an error'), { cause: new Error(textOf('a cause')) })
        })
        for (const [index, form] of Object.keys(FORMS).entries()) {
          await app.inject(`/${encodeURIComponent(form)}`)
          if (index % FORMS_HELD === 0) await app.observability.flush()
        }
      })
      t.ok(planted > 2_000, `${planted} planted`)
      t.same(found, [])
    })

    test(`sends nothing of values that are secret by their names, whatever they are and hold: ${name}`, async (t) => {
      const { planted, found } = await leaks(t, variant, async (app, plant) => {
        const values = Object.entries(VALUES).map(([kind, make]) => ['password', kind, make] as const)
        const holders = Object.entries(HOLDERS).map(([kind, make]) => ['held', kind, make] as const)
        const all = [...values, ...holders]
        app.get('/:index', async ({ params, observation }) => {
          const [key, kind, make] = all[Number(Object(params).index)] ?? ['', '', String]
          putValue(app, key, (place) => make(plant(`${kind}, ${place}`)))
          app.log.info(key === 'held' ? make(plant(`${kind}, all there is`)) : undefined)
          observation.add({ password: plant('a field'), api_key: [plant('a list')] })
          throw Object.assign(new Error('it failed'), { [key]: make(plant(`${kind}, an error's`)) })
        })
        for (const index of all.keys()) {
          await app.inject(`/${index}`)
          if (index % FORMS_HELD === 0) await app.observability.flush()
        }
      })
      t.ok(planted > 300, `${planted} planted`)
      t.same(found, [])
    })

    test(`sends nothing of ${ALL_THROWN.length} values that are thrown, whatever they are: ${name}`, async (t) => {
      const { planted, found } = await leaks(t, variant, async (app, plant) => {
        app.get('/:index', async ({ params, log, observation }) => {
          const [kind, make] = ALL_THROWN[Number(Object(params).index)] ?? ['', String]
          const thrown = (place: string) => make(plant(`${kind}, thrown in ${place}`))
          log.error({ err: thrown('a line') }, 'it failed')
          await withSpan('work', () => Promise.reject(thrown('a span'))).catch(() => undefined)
          await observe('import', () => Promise.reject(thrown('a job'))).catch(() => undefined)
          Sentry.captureException(new Error('it failed', { cause: thrown('a cause') }))
          observation.fail(thrown('what was reported'))
          throw thrown('a request')
        })
        for (const index of ALL_THROWN.keys()) {
          await app.inject(`/${index}`)
          if (index % FORMS_HELD === 0) await app.observability.flush()
        }
      })
      t.ok(planted > 300, `${planted} planted`)
      t.same(found, [])
    })

    test(`sends nothing of the secrets of callers, nor of calls: ${name}`, async (t) => {
      const { planted, found } = await leaks(t, variant, async (app, plant) => {
        useRequest(app, plant)
        const origin = await app.listen({ port: 0, host: '127.0.0.1' })
        for (const [header, make] of Object.entries(HEADERS)) {
          await ask(origin, '/orders', { [header]: make(plant(`the header ${header}`)) })
        }
        for (const [kind, make] of Object.entries(QUERIES)) {
          await ask(origin, `/orders?${make(plant(`the query, ${kind}`))}`, {})
        }
      })
      t.ok(planted > 200, `${planted} planted`)
      t.same(found, [])
    })

    test(`sends nothing of statements but their shape: ${name}`, async (t) => {
      const { found } = await leaks(t, variant, async (app, plant) => {
        app.get('/', async () => {
          for (const [system, statement] of STATEMENTS) {
            const [now, before] = [statement(plant(system)), statement(plant(`${system} before`))]
            withSpan('query', { 'db.system.name': system, 'db.query.text': now }, () => undefined)
            withSpan('query', { 'db.system': system, 'db.statement': before }, () => undefined)
          }
          throw new Error('it failed')
        })
        await app.inject('/')
      })
      t.same(found, [])
    })
  }
}
