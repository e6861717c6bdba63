// Fifty apps in one process, as a suite of an application has them: half are asked over a socket, the others by inject().
import assert from 'node:assert/strict'
import Fastify from 'fastify'
import observability, { withSpan } from 'fastify-observability'

export function suite(test) {
  const warnings = []
  process.on('warning', ({ name, message }) => warnings.push(`${name}: ${message}`))
  for (let number = 1; number <= 50; number++) test(`app ${number}`, () => exercise(number))
  test('no warning', () => {
    assert.deepEqual(
      warnings.filter((warning) => !warning.includes('VM Modules')),
      []
    )
  })
}

async function exercise(number) {
  const lines = []
  const app = Fastify()
  const stream = { write: (line) => lines.push(JSON.parse(line)) }
  await app.register(observability, { logging: { stream }, health: { shutdown: true } })
  app.get('/orders/:id', ({ params }) => withSpan('load order', () => ({ id: params.id })))
  const address = number % 2 ? undefined : await app.listen({ port: 0 })
  const response = address ? await fetch(`${address}/orders/7`) : await app.inject('/orders/7')
  assert.equal((await response.json()).id, '7')
  await app.close()
  assert.equal(lines.filter(({ msg }) => msg === 'request completed').length, 1)
}
