// A part alone, asked to send over OTLP. Prints its warnings.
import assert from 'node:assert/strict'
import Fastify from 'fastify'

const { default: part } = await import(process.argv[2])
const lines = []
const app = Fastify({ logger: { stream: { write: (line) => lines.push(JSON.parse(line)) } } })
await app.register(part, { otlp: true })
app.get('/', async () => 'found')
assert.equal((await app.inject('/')).body, 'found')
app.log.info('here')
await app.close()
console.log(
  lines
    .filter(({ level }) => level === 'warn' || level === 40)
    .map(({ msg }) => msg)
    .join('\n')
)
