import Fastify from 'fastify'
import observability from 'fastify-observability'
import Redis from 'ioredis'
import pg from 'pg'

// A user's service with two databases, for the test to run as a process of its own.
const { TEST_DATABASE_URL, TEST_REDIS_URL } = process.env
const app = Fastify()
await app.register(observability)
const pool = new pg.Pool({ connectionString: TEST_DATABASE_URL })
const io = new Redis(TEST_REDIS_URL)
await io.ping()
app.get('/orders', async () => {
  for (let id = 1; id <= 3; id++) await pool.query('SELECT $1::int, pg_sleep(0.01)', [id])
  return io.get('orders')
})
await app.listen({ port: 0, host: '127.0.0.1' })
