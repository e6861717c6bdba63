import { registerHooks } from 'node:module'
import Fastify from 'fastify'
import { test } from 'tap'
import profiling from '../src/index.ts'

// What Node does when the optional peer is not installed.
registerHooks({
  resolve(specifier, context, next) {
    return next(specifier === '@datadog/pprof' ? 'not-installed-pprof' : specifier, context)
  }
})

test('warns once and goes on when @datadog/pprof is not installed', async (t) => {
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => lines.push(line) } } })
  await app.register(profiling, { serverAddress: 'http://127.0.0.1:9' })
  app.get('/', async () => 'ok')
  t.equal((await app.inject('/')).body, 'ok')
  t.equal(lines.length, 1)
  t.match(lines[0], /no profiles: @datadog\/pprof is not installed or does not run here: npm install @datadog\/pprof/)
})
