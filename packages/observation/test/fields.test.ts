import Fastify, { type FastifyInstance } from 'fastify'
import { test } from 'tap'
import observation, { currentObservation, type FieldValue, type KeptValue } from '../src/index.ts'
import { registryOf } from '../src/internal.ts'

declare module 'fastify' {
  interface ObservationFields {
    plan: 'free' | 'pro'
  }
}

type Added = Readonly<Record<string, FieldValue>> & { plan?: 'free' | 'pro' }

/** The fields of a request that adds these one after the other, and why others were not kept. */
async function fieldsOf(...added: Added[]) {
  const app = Fastify()
  await app.register(observation)
  registryOf(app).reserve(['status_code'])
  app.get('/', async (request) => {
    for (const fields of added) request.observation.add(fields)
    return [...request.observation.fields]
  })
  const fields: [string, KeptValue][] = (await app.inject('/')).json()
  return { fields: Object.fromEntries(fields), dropped: droppedOf(app) }
}

function droppedOf(app: FastifyInstance): object {
  const series = registryOf(app).published.find(({ name }) => name === 'observability_fields_dropped_total')
  const samples = Array.from(series?.collect() ?? [], ([{ reason = '' }, count]) => [reason, count] as const)
  return Object.fromEntries(samples.filter(([, count]) => count > 0))
}

test('keeps what is added to a request, the last value of a name', async (t) => {
  const { fields, dropped } = await fieldsOf({ 'user.id': 7, plan: 'free' }, { plan: 'pro', beta: true, note: null })
  t.same(fields, { 'user.id': 7, plan: 'pro', beta: true, note: null })
  t.same(dropped, {})
})

test('shows in fields what is added after they were asked for', async (t) => {
  const app = Fastify()
  await app.register(observation)
  app.get('/', async ({ observation }) => {
    const { fields } = observation
    observation.add({ plan: 'free' })
    const before = [...observation.fields]
    observation.add({ plan: 'pro', beta: true })
    return { none: [...fields], before, after: [...observation.fields], size: observation.fields.size }
  })
  const after = [
    ['plan', 'pro'],
    ['beta', true]
  ]
  t.same((await app.inject('/')).json(), { none: [], before: [['plan', 'free']], after, size: 2 })
})

test('adds from anywhere below the request', async (t) => {
  const app = Fastify()
  await app.register(observation)
  async function deep(levels: number): Promise<void> {
    await null
    if (levels > 0) return deep(levels - 1)
    currentObservation()?.add({ depth: 'three' })
  }
  app.get('/', async (request) => {
    await deep(3)
    return [...request.observation.fields]
  })
  t.same((await app.inject('/')).json(), [['depth', 'three']])
})

test('gives values that JSON and attributes do not have a text', async (t) => {
  const at = new Date(0)
  const { fields } = await fieldsOf({ big: 2n ** 64n, at, rate: Number.NaN, list: ['a', 1, true], empty: [] })
  const iso = '1970-01-01T00:00:00.000Z'
  t.same(fields, { big: '18446744073709551616', at: iso, rate: 'NaN', list: ['a', 1, true], empty: [] })
})

test('keeps a list as it was when it was added', async (t) => {
  const list = ['a']
  const added = { list }
  const { fields } = await fieldsOf(added, {
    get later() {
      list.push('b')
      return 1
    }
  })
  t.same(fields, { list: ['a'], later: 1 })
})

test('keeps 64 of 10,000 fields, and counts the others', async (t) => {
  const many = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`field${index}`, index]))
  const { fields, dropped } = await fieldsOf(many, { field0: 'again' })
  t.equal(Object.keys(fields).length, 64)
  t.equal(fields.field0, 'again')
  t.same(dropped, { too_many: 9_936 })
})

test('keeps 4,096 characters of names and values, and counts what would go beyond', async (t) => {
  const { fields, dropped } = await fieldsOf({ a: 'x'.repeat(4_000) }, { b: 'x'.repeat(200) }, { c: 'x'.repeat(94) })
  t.same(Object.keys(fields), ['a', 'c'])
  t.same(dropped, { too_large: 1 })
  const replaced = await fieldsOf({ a: 'x'.repeat(4_000) }, { a: 'small' }, { b: 'x'.repeat(4_000) })
  t.same(Object.keys(replaced.fields), ['a', 'b'])
})

for (const [title, added, reason] of [
  ['a name of the suite’s own', { status_code: 1 }, 'reserved'],
  ['an empty name', { '': 1 }, 'invalid'],
  ['a name longer than 128 characters', { ['n'.repeat(129)]: 1 }, 'invalid'],
  ['an object', { a: { b: 1 } }, 'invalid'],
  ['a function', { a: () => 1 }, 'invalid'],
  ['a symbol', { a: Symbol('a') }, 'invalid'],
  ['an invalid date', { a: new Date(Number.NaN) }, 'invalid'],
  ['a list of objects', { a: [{}] }, 'invalid'],
  ['what is no object', 'plan=pro', 'invalid'],
  ['nothing', null, 'invalid'],
  [
    'a getter that throws',
    {
      get a(): never {
        throw new Error('broken')
      }
    },
    'invalid'
  ]
] as [string, never, string][]) {
  test(`counts ${title} as ${reason}, and keeps the others`, async (t) => {
    const { fields, dropped } = await fieldsOf({ before: 1 }, added, { after: 1 })
    t.same(fields, { before: 1, after: 1 })
    t.same(dropped, { [reason]: 1 })
  })
}

test('takes a name of every object as any other', async (t) => {
  const { fields } = await fieldsOf({ toString: 'a', ['__proto__']: 'b' } as never)
  t.equal(fields.toString, 'a')
  t.equal(Object.getOwnPropertyDescriptor(fields, '__proto__')?.value, 'b')
})

test('counts what is added after the end', async (t) => {
  const app = Fastify()
  await app.register(observation)
  app.get('/', async (request) => request.observation.path)
  app.observation.observe({ name: 'late', end: (ended) => ended.add({ late: true }) })
  await app.inject('/')
  t.same(droppedOf(app), { ended: 1 })
})

test('refuses a value of another type than the application has declared', async (t) => {
  // @ts-expect-error "gold" is no plan
  const { fields } = await fieldsOf({ plan: 'gold' })
  t.same(fields, { plan: 'gold' })
})
