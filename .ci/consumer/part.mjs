import assert from 'node:assert/strict'
import Fastify from 'fastify'

const { default: part } = await import(process.argv[2])
const app = Fastify()
await app.register(part)
app.get('/orders/:id', async () => 'found')
const address = await app.listen({ port: 0 })
assert.equal(await fetch(`${address}/orders/1`).then((response) => response.text()), 'found')
await app.close()
