// Uploads: a field or a file at a time, with a limit.
import multipart from '@fastify/multipart'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability)
await app.register(multipart, { limits: { fileSize: 1000 } })
app.post('/uploads', async (request) => {
  const file = await request.file()
  return { bytes: (await file.toBuffer()).length }
})
await app.listen({ port: 0, host: '127.0.0.1' })
