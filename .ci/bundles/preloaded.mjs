// A service whose queries are traced by the preload. Nobody listens where it connects to.
import Fastify from 'fastify'
import observability from 'fastify-observability'
import pg from 'pg'

async function start() {
  const pool = new pg.Pool({ host: '127.0.0.1', port: 1 })
  const app = Fastify()
  await app.register(observability)
  app.get('/', () => pool.query('SELECT 1').catch(({ code }) => code))
  const address = await app.listen({ port: 0 })
  process.stderr.write(await fetch(address).then((response) => response.text()))
  await app.close()
}

start()
