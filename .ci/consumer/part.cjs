const assert = require('node:assert/strict')
const Fastify = require('fastify')
const part = require(process.argv[2])

const app = Fastify()
app.register(part)
app.get('/orders/:id', async () => 'found')
app.listen({ port: 0 }).then(async (address) => {
  assert.equal(await fetch(`${address}/orders/1`).then((response) => response.text()), 'found')
  await app.close()
})
