// Files from a folder, and the 404 of one that is not there.
import files from '@fastify/static'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability)
await app.register(files, { root: import.meta.dirname, prefix: '/files/' })
await app.listen({ port: 0, host: '127.0.0.1' })
