import assert from 'node:assert/strict'
import Fastify from 'fastify'

export async function build(name) {
  const { default: part } = await import(name)
  const app = Fastify()
  await app.register(part)
  app.get('/orders/:id', async () => 'found')
  return app
}

const [, file, name] = process.argv
if (file === import.meta.filename) {
  const app = await build(name)
  const address = await app.listen({ port: 0 })
  assert.equal(await fetch(`${address}/orders/1`).then((response) => response.text()), 'found')
  await app.close()
}
