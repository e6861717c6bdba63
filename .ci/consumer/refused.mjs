// What registration says beside a Fastify that is too old.
import Fastify from 'fastify'
import observability from 'fastify-observability'

try {
  await Fastify().register(observability)
} catch ({ message }) {
  console.log(message)
}
