import { test } from 'tap'
import { OUTSIDE } from './planted-secrets.ts'
import { leaks, secrets, VARIANTS } from './secrets-sent.ts'

secrets(test, Object.entries(VARIANTS).slice(0, 1))

test('goes by names and forms, and so does not find what has neither', async (t) => {
  const variant = { logging: { format: 'json', otlp: true }, sentry: {} } as const
  const { found } = await leaks(t, variant, async (app, plant) => {
    app.get('/', async () => {
      for (const [what, [, textOf]] of Object.entries(OUTSIDE)) app.log.info(textOf(plant(what)))
      throw new Error('it failed')
    })
    await app.inject('/')
  })
  const inStream = found.filter((where) => where.startsWith('stream: '))
  t.same(new Set(inStream), new Set(Object.keys(OUTSIDE).map((what) => `stream: ${what}`)))
})
