// For `tsx` and `node --watch`: answers once, says so, and stays until it is told to end.
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability, { health: { shutdown: true } })
app.get('/', async (): Promise<string> => 'found')
const address = await app.listen({ port: 0 })
process.stderr.write(`${await fetch(address).then((response) => response.text())}\n`)
