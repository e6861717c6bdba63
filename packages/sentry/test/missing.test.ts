import { registerHooks } from 'node:module'
import Fastify from 'fastify'
import { test } from 'tap'
import sentry from '../src/index.ts'

// What Node does when the optional peer is not installed.
registerHooks({
  resolve(specifier, context, next) {
    return next(specifier === '@sentry/node' ? 'not-installed-sentry' : specifier, context)
  }
})

test('warns once and goes on when @sentry/node is not installed', async (t) => {
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => lines.push(line) } } })
  await app.register(sentry, { dsn: 'https://key@sentry.test/1' })
  app.get('/', async () => 'ok')
  t.equal((await app.inject('/')).body, 'ok')
  t.equal(lines.length, 1)
  t.match(lines[0], /no events are sent: npm install @sentry\/node/)
})
