import { execFile } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { PATIENCE_MS, STARVED_MS } from '@fastify-observability/testing/starvation'
import { test } from 'tap'
import { SIGNALS } from './producer.ts'

test('lets a process end whose batch would leave in a day', async (t) => {
  const producer = JSON.stringify(new URL('producer.ts', import.meta.url).href)
  const code = `import { produce } from ${producer}; produce('http://127.0.0.1:1').end(1); console.log('ended')`
  const env = { ...process.env, OTEL_BSP_SCHEDULE_DELAY: '86400000' }
  const settings = { env, timeout: PATIENCE_MS }
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', code], settings)
  t.equal(stdout, 'ended\n')
})

for (const protocol of ['grpc', 'http/protobuf']) {
  for (const [signal] of SIGNALS) {
    test(`closes ${signal} in time and lets the process end when nothing but TCP answers, over ${protocol}`, async (t) => {
      const sockets: net.Socket[] = []
      const hole = net.createServer((socket) => sockets.push(socket.resume())).listen(0, '127.0.0.1')
      await once(hole, 'listening')
      t.teardown(() => hole.close() && sockets.map((socket) => socket.destroy()))
      const address = hole.address()
      const endpoint = `http://127.0.0.1:${typeof address === 'object' && address?.port}`
      const env = { ...process.env, OTEL_EXPORTER_OTLP_PROTOCOL: protocol }
      const { stdout } = await promisify(execFile)(
        process.execPath,
        [join(import.meta.dirname, 'ending.ts'), signal, endpoint],
        { env }
      )
      const { closing, ending, counts } = JSON.parse(stdout)
      t.comment({ closing, ending })
      t.ok(closing < 1_000 + STARVED_MS, `${closing} ms`)
      t.ok(ending < STARVED_MS, `${ending} ms`)
      t.same(counts, { shutdown: 10 })
    })
  }
}
