import { once } from 'node:events'
import { Agent, get } from 'node:http'
import { text } from 'node:stream/consumers'
import { setTimeout as wait } from 'node:timers/promises'
import { promisify } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Fastify from 'fastify'
import { test } from 'tap'
import observation, { type Observation } from '../src/index.ts'

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

test('an idle connection keeps nothing of the last request that came over it', async (t) => {
  const app = Fastify()
  await app.register(observation)
  const seen: WeakRef<Observation>[] = []
  app.observation.observe({ name: 'test', end: (observation) => void seen.push(new WeakRef(observation)) })
  app.get('/', async () => 'ok')
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  t.teardown(() => app.close())

  for (let request = 0; request < 3; request++) {
    const [answer] = await once(get(url, { agent }), 'response')
    await text(answer)
  }
  for (let turn = 0; turn < 50 && seen.some((reference) => reference.deref()); turn++) {
    await wait(20)
    collectGarbage()
  }
  t.same(
    seen.map((reference) => reference.deref()),
    [undefined, undefined, undefined]
  )
  t.equal(await promisify(app.server.getConnections).call(app.server), 1)
})
