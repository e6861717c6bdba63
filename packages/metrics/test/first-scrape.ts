import Fastify from 'fastify'
import metrics from '../src/index.ts'

// Writes what the first scrape has of the event loop's delay, after a start that has blocked the loop.
const app = Fastify()
await app.register(metrics)
await app.ready()
const until = performance.now() + 1_200
while (performance.now() < until);
const { body } = await app.inject('/metrics')
for (const line of body.split('\n')) if (/^nodejs_eventloop_lag/.test(line)) console.log(line)
await app.close()
