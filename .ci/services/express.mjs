// Middleware of Express beside routes of Fastify.
import express from '@fastify/express'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability)
await app.register(express)
app.use('/legacy', (_request, response) => response.json({ from: 'express' }))
app.get('/orders/:id', async ({ params }) => params)
app.get('/boom', async () => {
  throw new TypeError('boom')
})
await app.listen({ port: 0, host: '127.0.0.1' })
