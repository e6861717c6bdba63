import { once } from 'node:events'
import { createServer, get } from 'node:http'
import { runInBackground } from '@fastify-observability/observation/internal'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import metrics, { type MetricsOptions } from '../src/index.ts'

async function downstream(t: Test): Promise<number> {
  const server = createServer((request, response) => {
    if (request.url === '/reset') request.socket.destroy()
    else response.writeHead(request.url === '/404' ? 404 : 200).end('ok')
  }).listen(0)
  await once(server, 'listening')
  t.teardown(() => server.close().closeAllConnections())
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

async function measured(outgoing: MetricsOptions['outgoing'], work: () => Promise<void>): Promise<string[]> {
  const app = Fastify()
  await app.register(metrics, outgoing ? { outgoing } : {})
  await work()
  const { body } = await app.inject('/metrics')
  await app.close()
  return body.split('\n').filter((line) => line.startsWith('http_client_request_duration_seconds_count'))
}

function count(host: string, status: string, error: string, value: number): string {
  return `http_client_request_duration_seconds_count{http_request_method="GET",server_address="${host}",http_response_status_code="${status}",error_type="${error}"} ${value}`
}

test('measures fetch and node:http; hosts that are not listed are one series', async (t) => {
  const port = await downstream(t)
  const lines = await measured({ hosts: ['LOCALHOST'] }, async () => {
    for (const path of ['', '404']) await (await fetch(`http://localhost:${port}/${path}`)).text()
    for (const host of ['127.0.0.1', '127.0.0.2']) await (await fetch(`http://${host}:${port}/`)).text()
    const [response] = await once(get({ host: 'localhost', port }), 'response')
    await once(response.resume(), 'close')
    await t.rejects(fetch(`http://localhost:${port}/reset`))
  })
  t.same(lines, [
    count('localhost', '200', '', 2),
    count('localhost', '404', '404', 1),
    count('_OTHER', '200', '', 2),
    count('localhost', '', 'UND_ERR_SOCKET', 1)
  ])
})

test('measures no calls unless asked', async (t) => {
  const port = await downstream(t)
  t.same(await measured(false, async () => void (await (await fetch(`http://localhost:${port}/`)).text())), [])
})

test('does not measure the deliveries of the suite itself', async (t) => {
  const port = await downstream(t)
  const lines = await measured({ hosts: ['localhost'] }, async () => {
    const url = `http://localhost:${port}/`
    await runInBackground(async () => void (await (await fetch(url)).text()))
    const request = runInBackground(() => get(url))
    const [response] = await once(request, 'response')
    await once(response.resume(), 'close')
    await (await fetch(url)).text()
  })
  t.same(lines, [count('localhost', '200', '', 1)])
})
