import Fastify from 'fastify'
import { type Test, test } from 'tap'
import tracing from '../src/index.ts'
import { withEnv } from './traced.ts'

/** The warnings of an app that starts with these variables. */
async function warningsOf(t: Test, variables: Record<string, string>): Promise<string[]> {
  withEnv(t, variables)
  const lines: { level: number; msg: string }[] = []
  const app = Fastify({ logger: { stream: { write: (line: string) => void lines.push(JSON.parse(line)) } } })
  await app.register(tracing)
  await app.close()
  for (const name of Object.keys(variables)) delete process.env[name]
  return lines.flatMap(({ level, msg }) => (level === 40 ? [msg] : []))
}

const UNKNOWN: Record<string, [variables: Record<string, string>, warning: string]> = {
  'a propagator': [
    { OTEL_PROPAGATORS: 'tracecontext,b3' },
    "OTEL_PROPAGATORS must be a list of tracecontext, baggage, none, 'b3' is ignored"
  ],
  'an exporter': [
    { OTEL_TRACES_EXPORTER: 'zipkin' },
    "OTEL_TRACES_EXPORTER must be a list of otlp, console, none, 'zipkin' is ignored"
  ],
  'a sampler': [
    { OTEL_TRACES_SAMPLER: 'parentbased_jaeger_remote' },
    "OTEL_TRACES_SAMPLER must be one of always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off, parentbased_traceidratio, 'parentbased_jaeger_remote' is ignored"
  ],
  'an argument that is no number': [
    { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: 'x' },
    "OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, 'x' is ignored"
  ],
  'an argument above 1': [
    { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '1.5' },
    "OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, '1.5' is ignored"
  ],
  'an endpoint without a scheme': [
    { OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317' },
    'OTEL_EXPORTER_OTLP_ENDPOINT must be an http:// or https:// URL, its value is ignored'
  ],
  'a limit that is no number': [
    { OTEL_SPAN_EVENT_COUNT_LIMIT: 'many' },
    "OTEL_SPAN_EVENT_COUNT_LIMIT must be a whole number from 0, 'many' is ignored"
  ],
  'a limit below 0': [
    { OTEL_LINK_ATTRIBUTE_COUNT_LIMIT: '-1' },
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT must be a whole number from 0, '-1' is ignored"
  ],
  'a switch': [{ OTEL_SDK_DISABLED: 'yes' }, "OTEL_SDK_DISABLED must be true or false, 'yes' is ignored"]
}

for (const [what, [variables, warning]] of Object.entries(UNKNOWN)) {
  test(`starts and warns once of ${what} that it does not know`, async (t) => {
    t.same(await warningsOf(t, variables), [`tracing: ${warning}`])
    t.same(await warningsOf(t, variables), [])
  })
}

test('knows values in any case, with spaces around them', async (t) => {
  const known = {
    OTEL_PROPAGATORS: ' TraceContext, baggage ',
    OTEL_TRACES_SAMPLER: 'Always_Off ',
    OTEL_SDK_DISABLED: 'FALSE'
  }
  t.same(await warningsOf(t, known), [])
})

test('takes an empty variable for one that is not set', async (t) => {
  t.same(await warningsOf(t, { OTEL_PROPAGATORS: '', OTEL_TRACES_SAMPLER: ' ', OTEL_SPAN_LINK_COUNT_LIMIT: '' }), [])
})

test('repeats no endpoint, which may hold a password', async (t) => {
  const warnings = await warningsOf(t, { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'me:planted@collector:4317' })
  t.equal(warnings.length, 1)
  t.notMatch(warnings[0], 'planted')
})
