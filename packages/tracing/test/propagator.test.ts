import { once } from 'node:events'
import http from 'node:http'
import { json } from 'node:stream/consumers'
import { STARVED_MS } from '@fastify-observability/testing/starvation'
import {
  type Context,
  createTraceState,
  defaultTextMapGetter,
  defaultTextMapSetter,
  ROOT_CONTEXT,
  type SpanContext,
  type TraceState,
  trace
} from '@opentelemetry/api'
import { suppressTracing } from '@opentelemetry/core'
import { TracerProvider } from '@opentelemetry/sdk-trace'
import fc from 'fast-check'
import { test } from 'tap'
import { sendingOnlyWhereAllowed, strictTraceContext } from '../src/propagation/trace-context.ts'

// The sections are those of https://www.w3.org/TR/trace-context-2/, the Candidate Recommendation Draft of 2024-03-28.
interface Headers {
  traceparent?: string
  tracestate?: string
}

const propagator = strictTraceContext()
const TRACE = '0af7651916cd43dd8448eb211c80319c'
const SPAN = 'b7ad6b7169203331'
const IDS = `${TRACE}-${SPAN}`
const VALID = `00-${IDS}-01`
const LONG = 'x'.repeat(256)

const members = (count: number) => Array.from({ length: count }, (_, index) => `k${index}=${index}`).join(',')
/** Members by key, each of this length in all. */
const sized = (lengths: Record<string, number>) =>
  Object.entries(lengths)
    .map(([key, length]) => `${key}=`.padEnd(length, 'v'))
    .join(',')
const extract = (carrier: unknown) => propagator.extract(ROOT_CONTEXT, carrier, defaultTextMapGetter)

function inject(context: Context): Headers {
  const headers: Headers = {}
  propagator.inject(context, headers, defaultTextMapSetter)
  return headers
}

function stateOf(tracestate: string): TraceState {
  const state = trace.getSpanContext(extract({ traceparent: VALID, tracestate }))?.traceState
  if (!state) throw new Error(`no trace state in ${tracestate}`)
  return state
}

function injected(span: Partial<SpanContext>): Headers {
  return inject(trace.setSpanContext(ROOT_CONTEXT, { traceId: TRACE, spanId: SPAN, traceFlags: 1, ...span }))
}

/** What comes in as `traceparent`, and what of it goes out. */
const traceparents: [rule: string, header: unknown, out: string | undefined][] = [
  ['§3.2.2 passes on a valid header', VALID, VALID],
  ['§3.2.2 takes a list of one field', [VALID], VALID],
  ['§3.2.2 refuses two fields', [VALID, VALID], undefined],
  ['§3.2.2 refuses two fields of which one is not text', [VALID, 1], undefined],
  ['§3.2.2 refuses two fields joined by a comma', `${VALID}, ${VALID}`, undefined],
  ['§3.2.2 refuses two fields of a later version joined by a comma', `cc-${IDS}-01-x,cc-${IDS}-01`, undefined],
  ['§3.2.2 refuses a missing header', undefined, undefined],
  ['§3.2.2 refuses null', null, undefined],
  ['§3.2.2 refuses a number', 7, undefined],
  ['§3.2.2 refuses an object', { toString: () => VALID }, undefined],
  ['§3.2.2 refuses an empty list', [], undefined],
  ['§3.2.2 refuses an empty header', '', undefined],
  ['§3.2.2 ignores white space around the value (RFC 9110 §5.5)', `\t ${VALID} \t`, VALID],
  ['§3.2.2 refuses other white space around the value', `\u00a0${VALID}`, undefined],
  ['§3.2.2 refuses a line feed after the value', `${VALID}\n`, undefined],
  ['§3.2.2 refuses white space inside the value', `00- ${IDS}-01`, undefined],
  ['§3.2.2 refuses another delimiter', VALID.replaceAll('-', '_'), undefined],
  ['§3.2.2.1 refuses version ff', `ff-${IDS}-01`, undefined],
  ['§3.2.2.1 refuses an illegal character in the version', `.0-${IDS}-01`, undefined],
  ['§3.2.2.1 refuses an upper-case version', `0A-${IDS}-01`, undefined],
  ['§3.2.2.1 refuses a version of one digit', `0-${IDS}-01`, undefined],
  ['§3.2.2.1 refuses a version of three digits', `000-${IDS}-01`, undefined],
  ['§3.2.2.2 refuses text after the flags of version 00', `${VALID}.`, undefined],
  ['§3.2.2.2 refuses a dash after the flags of version 00', `${VALID}-`, undefined],
  ['§3.2.2.2 refuses a fifth field in version 00', `${VALID}-what-the-future-will-be-like`, undefined],
  ['§3.2.2.2 refuses a header without flags', `00-${IDS}`, undefined],
  ['§3.2.2.3 refuses an all-zero trace-id', `00-${'0'.repeat(32)}-${SPAN}-01`, undefined],
  ['§3.2.2.3 refuses an upper-case trace-id', `00-${TRACE.toUpperCase()}-${SPAN}-01`, undefined],
  ['§3.2.2.3 refuses an illegal character in the trace-id', `00-.${TRACE.slice(1)}-${SPAN}-01`, undefined],
  ['§3.2.2.3 refuses a short trace-id', `00-${TRACE.slice(1)}-${SPAN}-01`, undefined],
  ['§3.2.2.3 refuses a long trace-id', `00-${TRACE}0-${SPAN}-01`, undefined],
  ['§3.2.2.4 refuses an all-zero parent-id', `00-${TRACE}-${'0'.repeat(16)}-01`, undefined],
  ['§3.2.2.4 refuses an upper-case parent-id', `00-${TRACE}-${SPAN.toUpperCase()}-01`, undefined],
  ['§3.2.2.4 refuses an illegal character in the parent-id', `00-${TRACE}-${SPAN.slice(1)}.-01`, undefined],
  ['§3.2.2.4 refuses a short parent-id', `00-${TRACE}-${SPAN.slice(1)}-01`, undefined],
  ['§3.2.2.4 refuses a long parent-id', `00-${TRACE}-${SPAN}0-01`, undefined],
  ['§3.2.2.5 refuses an illegal character in the flags', `00-${IDS}-.0`, undefined],
  ['§3.2.2.5 refuses upper-case flags', `00-${IDS}-0A`, undefined],
  ['§3.2.2.5 refuses flags of one digit', `00-${IDS}-1`, undefined],
  ['§3.2.2.5 refuses flags of three digits', `00-${IDS}-001`, undefined],
  ['§3.2.2.5.1 keeps the sampled flag unset', `00-${IDS}-00`, `00-${IDS}-00`],
  ['§3.2.2.5.2 keeps the random flag', `00-${IDS}-02`, `00-${IDS}-02`],
  ['§3.2.2.5.2 keeps the random flag beside sampled', `00-${IDS}-03`, `00-${IDS}-03`],
  ['§3.2.2.5.3 sets unknown flags to zero', `00-${IDS}-fc`, `00-${IDS}-00`],
  ['§3.2.2.5.3 masks the known flags out of all eight', `00-${IDS}-ff`, `00-${IDS}-03`],
  ['§3.2.4 reads a later version and sends version 00', `cc-${IDS}-01`, VALID],
  ['§3.2.4 ignores the further fields of a later version', `01-${IDS}-01-what-the-future-will-be-like`, VALID],
  ['§3.2.4 takes an empty further field of a later version', `01-${IDS}-01-`, VALID],
  ['§3.2.4 refuses a later version whose flags no dash follows', `cc-${IDS}-01.what`, undefined],
  ['§3.2.4 refuses a later version under 55 characters', `cc-${IDS}-1`, undefined],
  ['§3.2.4 refuses a later version with an all-zero trace-id', `cc-${'0'.repeat(32)}-${SPAN}-01`, undefined],
  ['§3.2.4 reads only the sampled flag of a later version', `cc-${IDS}-ff`, VALID]
]

for (const [rule, traceparent, out] of traceparents) {
  test(`traceparent ${rule}`, async (t) => {
    const tracestate = 'foo=1'
    t.same(inject(extract({ traceparent, tracestate })), out ? { traceparent: out, tracestate } : {})
  })
}

/** What comes in as `tracestate`, and what of it goes out; `traceparent` does so every time. */
const tracestates: [rule: string, header: unknown, out: string | undefined][] = [
  ['§3.3.2 takes several members in their order', 'foo=1,bar=2,baz=3', 'foo=1,bar=2,baz=3'],
  ['§3.3.2 joins several fields in their order', ['foo=1,bar=2', 'rojo=1', 'baz=3'], 'foo=1,bar=2,rojo=1,baz=3'],
  ['§3.3.2 takes an empty field before another', ['', 'foo=1'], 'foo=1'],
  ['§3.3.2 takes an empty field after another', ['foo=1', ''], 'foo=1'],
  ['§3.3.2 sends no empty header', '', undefined],
  ['§3.3.2 sends nothing for empty members alone', ' ,\t, ,', undefined],
  ['§3.3.2 drops a header that is not text', 7, undefined],
  ['§3.3.2 drops the header when one field is not text', ['foo=1', null], undefined],
  ['§3.3.2 leaves out empty members', 'foo=1,,bar=2, \t,baz=3,', 'foo=1,bar=2,baz=3'],
  ['§3.3.2 ignores white space around members', ' \tfoo=1 \t, \tbar=2\t ', 'foo=1,bar=2'],
  ['§3.3.2 drops a header with other white space around members', 'foo=1\u00a0,bar=2', undefined],
  ['§3.3.2 takes 32 members', members(32), members(32)],
  ['§3.3.2 does not count empty members', `,${members(32)},`, members(32)],
  ['§3.3.2 drops a header of 33 members', members(33), undefined],
  ['§3.3.2 drops 33 members in two fields', [members(32), 'foo=1'], undefined],
  ['§3.3.2.1 drops a member without an equals sign', 'foo,bar=2', undefined],
  ['§3.3.2.1 drops a semicolon for a comma', 'foo=1;bar=2', undefined],
  ['§3.3.2.2.1 takes every key character', 'abcxyz0189_-*/@=1', 'abcxyz0189_-*/@=1'],
  ['§3.3.2.2.1 takes a multi-tenant key', '9tenant@system=1', '9tenant@system=1'],
  ['§3.3.2.2.1 takes a key that begins with a digit', '1foo=1', '1foo=1'],
  ['§3.3.2.2.1 takes a key that ends with an at sign', 'foo@=1,bar=2', 'foo@=1,bar=2'],
  ['§3.3.2.2.1 takes several at signs', 'foo@bar@@baz=1', 'foo@bar@@baz=1'],
  [
    '§3.3.2.2.1 limits no side of an at sign',
    `${'t'.repeat(242)}@${'v'.repeat(13)}=1`,
    `${'t'.repeat(242)}@${'v'.repeat(13)}=1`
  ],
  ['§3.3.2.2.1 drops a key that begins with an at sign', '@foo=1,bar=2', undefined],
  ['§3.3.2.2.1 drops a key that begins with a dash', '-foo=1,bar=2', undefined],
  ['§3.3.2.2.1 drops an upper-case key', 'FOO=1,bar=2', undefined],
  ['§3.3.2.2.1 drops a space in the key', 'foo =1,bar=2', undefined],
  ['§3.3.2.2.1 drops a dot in the key', 'foo.bar=1,bar=2', undefined],
  ['§3.3.2.2.1 drops an empty key', '=1,bar=2', undefined],
  ['§3.3.2.2.1 takes a key of 256 characters', `${LONG}=1`, `${LONG}=1`],
  ['§3.3.2.2.1 drops a key of 257 characters', `foo=1,${LONG}x=1`, undefined],
  [
    '§3.3.2.2.2 takes every printable character',
    'foo= !"#$%&\'()*+-./09:;<>?@AZ[\\]^_`az{|}~',
    'foo= !"#$%&\'()*+-./09:;<>?@AZ[\\]^_`az{|}~'
  ],
  ['§3.3.2.2.2 keeps spaces before the value', 'foo=  1', 'foo=  1'],
  ['§3.3.2.2.2 leaves out spaces after the value', 'foo=1  ,bar=2', 'foo=1,bar=2'],
  ['§3.3.2.2.2 drops an empty value', 'foo=,bar=2', undefined],
  ['§3.3.2.2.2 drops a value of spaces', 'foo=  ,bar=2', undefined],
  ['§3.3.2.2.2 drops an equals sign in the value', 'foo=bar=baz', undefined],
  ['§3.3.2.2.2 drops a tab in the value', 'foo=a\tb', undefined],
  ['§3.3.2.2.2 drops a control character', 'foo=a\u007fb', undefined],
  ['§3.3.2.2.2 drops a line feed', 'foo=a\nb', undefined],
  ['§3.3.2.2.2 drops what is not ASCII', 'foo=é,bar=2', undefined],
  ['§3.3.2.2.2 takes a value of 256 characters', `foo=${LONG}`, `foo=${LONG}`],
  ['§3.3.2.2.2 drops a value of 257 characters', `foo=${LONG}x,bar=2`, undefined],
  ['§3.3 sends on the first of equal members', 'foo=1,foo=1', 'foo=1'],
  ['§3.3 sends on the first of two values for a key', 'foo=1,bar=2,foo=2', 'foo=1,bar=2'],
  ['§3.3 sends on the first of a key that comes in two fields', ['foo=1', 'foo=2'], 'foo=1'],
  ['§3.3.3.1 passes on 512 characters', sized({ a: 255, b: 256 }), sized({ a: 255, b: 256 })],
  [
    '§3.3.3.1 leaves out the last of 513 characters',
    sized({ a: 128, b: 128, c: 128, d: 126 }),
    sized({ a: 128, b: 128, c: 128 })
  ],
  [
    '§3.3.3.1 leaves out a member over 128 characters before the last one',
    sized({ a: 129, b: 128, c: 128, d: 128, e: 125 }),
    sized({ b: 128, c: 128, d: 128, e: 125 })
  ],
  [
    '§3.3.3.1 leaves out no more long members than it must',
    sized({ a: 200, b: 9, c: 200, d: 200, e: 9 }),
    sized({ a: 200, b: 9, c: 200, e: 9 })
  ],
  [
    '§3.3.3.1 leaves out members of 128 characters from the end',
    sized({ a: 9, b: 128, c: 128, d: 128, e: 128, f: 128 }),
    sized({ a: 9, b: 128, c: 128, d: 128 })
  ],
  ['§3.3.3.1 cuts no member that is too long alone', `${LONG}=${LONG}`, undefined]
]

for (const [rule, tracestate, out] of tracestates) {
  test(`tracestate ${rule}`, async (t) => {
    const carried = out === undefined ? {} : { tracestate: out }
    t.same(inject(extract({ traceparent: VALID, tracestate })), { traceparent: VALID, ...carried })
  })
}

test('§3.3 does not read tracestate when traceparent is invalid', async (t) => {
  const asked: string[] = []
  const get = (_: unknown, key: string) => {
    asked.push(key)
    return 'foo=1'
  }
  t.equal(propagator.extract(ROOT_CONTEXT, {}, { get, keys: () => [] }), ROOT_CONTEXT)
  t.same(asked, ['traceparent'])
})

test('§3.3 keeps traceparent when tracestate is invalid', async (t) => {
  t.same(trace.getSpanContext(extract({ traceparent: `00-${IDS}-03`, tracestate: 'foo' })), {
    traceId: TRACE,
    spanId: SPAN,
    traceFlags: 3,
    isRemote: true
  })
})

test('§3.2.1, §3.3.1 find the headers in any case and send them in lower case', async (t) => {
  const server = http.createServer((request, response) => {
    response.end(JSON.stringify(inject(extract(request.headers))))
  })
  t.teardown(() => server.close())
  await once(server.listen(0), 'listening')
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : undefined
  const ask = async (headers: string[]) => {
    const [response] = await once(
      http.get({ port, headers: ['Host', 'localhost', ...headers], agent: false }),
      'response'
    )
    return json(response)
  }
  const state = ['TraceState', 'foo=1', 'TRACESTATE', 'bar=2']
  t.same(await ask(['TraceParent', VALID, ...state]), { traceparent: VALID, tracestate: 'foo=1,bar=2' })
  t.same(await ask(['traceparent', VALID, 'TraceParent', VALID, ...state]), {})
})

test('§3.2.2.5.2 passes the random flag on through spans of the SDK, and never makes it up', async (t) => {
  const tracer = new TracerProvider().getTracer('test')
  const child = (parent: Context) => trace.setSpan(parent, tracer.startSpan('child', {}, parent))
  const next = (traceparent: string) => inject(child(child(extract({ traceparent })))).traceparent
  t.match(next(`00-${IDS}-03`), new RegExp(`^00-${TRACE}-(?!${SPAN}).{16}-03$`))
  t.match(next(`00-${IDS}-01`), new RegExp(`^00-${TRACE}-(?!${SPAN}).{16}-01$`))
  const restarted = tracer.startSpan('root', { root: true }, extract({ traceparent: `00-${IDS}-03` }))
  t.match(inject(trace.setSpan(extract({ traceparent: `00-${IDS}-03` }), restarted)).traceparent, /-01$/)
})

const injections: [rule: string, span: Partial<SpanContext>, out: Headers][] = [
  ['§3.2.2.5 sends the flags of the span', { traceFlags: 3 }, { traceparent: `00-${IDS}-03` }],
  ['§3.2.2.5.3 sends unknown flags as zero', { traceFlags: 0xfc }, { traceparent: `00-${IDS}-00` }],
  ['§3.2.2.3 sends no all-zero trace-id', { traceId: '0'.repeat(32) }, {}],
  ['§3.2.2.3 sends no upper-case trace-id', { traceId: TRACE.toUpperCase() }, {}],
  ['§3.2.2.4 sends no all-zero parent-id', { spanId: '0'.repeat(16) }, {}],
  ['§3.3.2 sends no empty tracestate', { traceState: createTraceState() }, { traceparent: VALID }],
  [
    '§3.3.2 sends a trace state of another make',
    { traceState: createTraceState('a=1') },
    { traceparent: VALID, tracestate: 'a=1' }
  ]
]

for (const [rule, span, out] of injections) {
  test(`inject ${rule}`, async (t) => t.same(injected(span), out))
}

test('injects nothing where tracing is suppressed, nor without a span', async (t) => {
  t.same(inject(suppressTracing(extract({ traceparent: VALID, tracestate: 'foo=1' }))), {})
  t.same(inject(ROOT_CONTEXT), {})
})

test('names the headers it writes', async (t) => t.same(propagator.fields(), ['traceparent', 'tracestate']))

const mutations: [rule: string, mutate: (state: TraceState) => TraceState, out: string][] = [
  ['§3.5 adds a key at the beginning', (state) => state.set('new', '0'), 'new=0,foo=1,bar=2,baz=3'],
  ['§3.5 moves a modified key to the beginning', (state) => state.set('bar', '0'), 'bar=0,foo=1,baz=3'],
  ['§3.5 deletes a key and keeps the order', (state) => state.unset('bar'), 'foo=1,baz=3'],
  ['§3.5 deletes no key it does not have', (state) => state.unset('none'), 'foo=1,bar=2,baz=3'],
  ['§3.3.2.2.1 sets no invalid key', (state) => state.set('FOO', '0'), 'foo=1,bar=2,baz=3'],
  ['§3.3.2.2.2 sets no invalid value', (state) => state.set('foo', 'a,b'), 'foo=1,bar=2,baz=3']
]

for (const [rule, mutate, out] of mutations) {
  test(`trace state ${rule}`, async (t) => {
    const state = stateOf('foo=1,bar=2,baz=3')
    t.equal(mutate(state).serialize(), out)
    t.equal(state.serialize(), 'foo=1,bar=2,baz=3', 'the original is as it was')
  })
}

test('trace state §3.3.2 removes the right-most of 33 members', async (t) => {
  const state = stateOf(members(32)).set('new', '0')
  t.equal(state.serialize(), `new=0,${members(31)}`)
})

test('trace state reads the value of a key', async (t) => {
  const state = stateOf('foo=1,bar= 2')
  t.equal(state.get('bar'), ' 2')
  t.equal(state.get('baz'), undefined)
})

// Valid headers, valid ones with a character changed, strings made of the grammar's characters, and anything at all.
const spoilt = (valid: fc.Arbitrary<string>) =>
  fc
    .tuple(valid, fc.nat(600), fc.nat(2), fc.string({ unit: 'binary', maxLength: 2 }))
    .map(
      ([text, at, gone, put]) =>
        text.slice(0, at % (text.length + 1)) + put + text.slice((at % (text.length + 1)) + gone)
    )
const anyOf = (valid: fc.Arbitrary<string>, characters: string) =>
  fc.oneof(
    { weight: 5, arbitrary: valid },
    { weight: 2, arbitrary: spoilt(valid) },
    { weight: 1, arbitrary: fc.string({ unit: fc.constantFrom(...characters), maxLength: 600 }) },
    { weight: 1, arbitrary: fc.array(fc.oneof(valid, fc.anything()), { maxLength: 3 }) },
    { weight: 1, arbitrary: fc.oneof(fc.string({ unit: 'binary', maxLength: 600 }), fc.anything()) }
  )
const validParent = fc.stringMatching(
  /^[ \t]?(00-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}|[\da-e]{2}-[\da-f]{32}-[\da-f]{16}-0[0-3])[ \t]?$/
)
const validState = fc
  .uniqueArray(fc.stringMatching(/^[a-z0-9][a-z0-9_*/@-]{0,20}=[ -+.-<>-~]{0,40}[!-+.-<>-~]$/), {
    selector: (member) => member.split('=')[0],
    maxLength: 34
  })
  .map((list) => list.join(', '))

function plain(context: Context = ROOT_CONTEXT) {
  const span = trace.getSpanContext(context)
  return span && { ...span, traceState: undefined, tracestate: span.traceState?.serialize() ?? '' }
}

test('survives 10,000 fuzzed headers, and whatever it extracts comes back the same', async (t) => {
  const carriers = fc.sample(
    fc.record({
      traceparent: anyOf(validParent, '0123456789abcdef-fF, \t'),
      tracestate: anyOf(validState, 'ab1=@, \t*/_-')
    }),
    { numRuns: 10_000, seed: 4 }
  )
  const start = performance.now()
  const contexts = carriers.map(extract)
  const sent = contexts.map(inject)
  t.ok(performance.now() - start < STARVED_MS)

  const received = sent.map(extract)
  t.same(received.map(inject), sent)
  const whole = contexts
    .map((_, index) => index)
    .filter((index) => (plain(contexts[index])?.tracestate.length ?? 0) <= 512)
  t.same(
    whole.map((index) => plain(received[index])),
    whole.map((index) => plain(contexts[index]))
  )
  const carried = sent.filter(({ traceparent }) => traceparent).length
  const stated = sent.filter(({ tracestate }) => tracestate).length
  t.ok(carried > 3000 && stated > 1000, `${carried} contexts, ${stated} with a trace state`)
})

test('neither a request nor a call fails by a propagator that throws', async (t) => {
  const errors: unknown[] = []
  const fails = (): never => {
    throw new Error('no')
  }
  const broken = { fields: () => [], extract: fails, inject: fails }
  const guarded = sendingOnlyWhereAllowed(broken, (error) => errors.push(error))
  t.equal(guarded.extract(ROOT_CONTEXT, {}, defaultTextMapGetter), ROOT_CONTEXT)
  t.doesNotThrow(() => guarded.inject(ROOT_CONTEXT, {}, defaultTextMapSetter))
  t.same(errors, [new Error('no'), new Error('no')])
})
