import health from '@fastify-observability/health'
import logging from '@fastify-observability/logging'
import metrics from '@fastify-observability/metrics'
import profiling from '@fastify-observability/profiling'
import requestId from '@fastify-observability/request-id'
import sentry from '@fastify-observability/sentry'
import tracing from '@fastify-observability/tracing'
import Fastify, { type FastifyPluginAsync } from 'fastify'
import { test } from 'tap'
import observability from '../src/index.ts'

// Each has its options checked before it does anything.
const PLUGINS: Record<string, FastifyPluginAsync> = {
  observability,
  requestId,
  logging,
  tracing,
  metrics,
  health,
  profiling,
  sentry
}
const SECRET = 'Zq81hunter2xK40pL'
const PLANTED = {
  'as it is': SECRET,
  'in a URL': `postgres://me:${SECRET}@db:5432/orders?password=${SECRET}`,
  'as the key of a DSN': `https://${SECRET}@o1.ingest.sentry.io`,
  'as a header': `Bearer ${SECRET}`,
  'in a list': [SECRET, 7],
  'in an object': { password: SECRET, [SECRET.slice(1)]: SECRET },
  'in an object of an object': { ratio: { token: SECRET } },
  'in an object with a typo': { tokne: SECRET }
}

/** What the plugin says of its options, `undefined` where they are accepted. */
async function refusal(plugin: FastifyPluginAsync, options: object): Promise<string | undefined> {
  const app = Fastify()
  try {
    await app.register(plugin, options)
    return undefined
  } catch (error) {
    return String(error)
  } finally {
    await app.close()
  }
}

for (const [name, plugin] of Object.entries(PLUGINS)) {
  const options = async () =>
    (await refusal(plugin, { zzzzzzzzzzzz: 1 }))?.match(/allowed are (.*), got/)?.[1]?.split(', ') ?? []

  test(`${name}: no error about an option repeats a secret, whatever the option`, async (t) => {
    // A text is the path of a log file.
    process.chdir(t.testdir())
    const known = await options()
    t.ok(known.length > 4)
    const wrong = [...known, ...known.map((option) => `${option}z`), 'password', 'apiKey']
    for (const option of wrong) {
      for (const [where, value] of Object.entries(PLANTED)) {
        const message = await refusal(plugin, { [option]: value })
        t.notMatch(String(message), SECRET.slice(1), `${option}, ${where}`)
      }
    }
  })
}

test('says of a value that may be secret how long it is, and names the option and the rule', async (t) => {
  const token = await refusal(observability, { management: { port: 0, token: 7, tokne: SECRET } })
  t.match(token, /unknown option "management\.tokne": did you mean "token"\?, got a text of 17 characters$/)
  const endpoint = await refusal(tracing, { endpoint: `collector:4317/${SECRET}` })
  t.match(endpoint, /option "endpoint" must be an http:\/\/ or https:\/\/ URL, got a text of 32 characters$/)
})
