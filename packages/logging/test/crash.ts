import Fastify from 'fastify'
import logging, { createLogger } from '../src/index.ts'

// A process that logs and dies at once, for the test to look at what it has left.
const [how, file] = process.argv.slice(2)
const log = createLogger({ file })
for (let line = 1; line <= 1000; line++) log.info({ line }, 'before the end')
if (how === 'close') {
  const app = Fastify()
  await app.register(logging)
  await app.close()
  app.log.info('after close')
}
if (how !== 'crash') process.exit(0)
throw new Error('crash')
