// A socket that echoes; its request lasts until it closes.
import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability)
await app.register(websocket)
app.get('/chat/:room', { websocket: true }, (socket) => {
  socket.on('message', (message) => socket.send(`echo ${message}`))
})
await app.listen({ port: 0, host: '127.0.0.1' })
