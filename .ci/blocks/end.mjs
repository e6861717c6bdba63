// Loaded before a block: finds the apps that it makes. The block's last line calls `endOfBlock`, which asks each of their routes
// once and closes them, so that a block which cannot serve fails.
import { subscribe } from 'node:diagnostics_channel'

const apps = []
const fails = (process.env.BLOCK_FAILS ?? '').split(',')
// A service that is not ready says so with 503, and a stream of the developer page has no end: no faults of the block.
const UNASKED = /^\/(health|metrics|_observability)|\*/

subscribe('fastify.initialization', ({ fastify }) => {
  const routes = []
  apps.push({ fastify, routes })
  fastify.addHook('onRoute', ({ method, url }) => {
    for (const name of [method].flat()) if (name === 'GET' || name === 'POST') routes.push({ method: name, url })
  })
})

async function ask(fastify, { method, url }) {
  const path = url.replace(/:\w+/g, '7')
  const { statusCode, body } = await fastify.inject({ method, url: path, ...(method === 'POST' && { payload: {} }) })
  if (statusCode >= 500 === fails.includes(url)) return
  throw new Error(`${method} ${url} answered ${statusCode}: ${body}`)
}

globalThis.endOfBlock = async () => {
  for (const { fastify, routes } of apps) {
    await fastify.ready()
    for (const route of routes) {
      if (!UNASKED.test(route.url)) await ask(fastify, route)
    }
  }
  // What the routes have begun, such as the job of a queue.
  await globalThis.workOfBlock
  for (const { fastify } of apps.reverse()) await fastify.close()
}
