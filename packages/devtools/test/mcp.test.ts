import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { type Test, test } from 'tap'
import { startService } from './service.ts'

/** The service, and what a tool of it answers. */
async function connect(t: Test) {
  const { app } = await startService(t)
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  const client = new Client({ name: 'test', version: '1.0.0' })
  t.teardown(() => client.close())
  await client.connect(new StreamableHTTPClientTransport(new URL(`${address}/_observability/mcp`)))
  async function call(name: string, args: Record<string, unknown> = {}) {
    const { content } = await client.callTool({ name, arguments: args })
    const [{ text = '' } = {}] = Array.isArray(content) ? content : []
    return JSON.parse(text)
  }
  return { app, client, call }
}

test('offers three tools', async (t) => {
  const { client } = await connect(t)
  const { tools } = await client.listTools()
  t.same(
    tools.map(({ name }) => name),
    ['list_requests', 'get_story', 'get_setup']
  )
})

test('a tool finds the request that failed, and tells its story', async (t) => {
  const { app, call } = await connect(t)
  await app.inject('/ok')
  await app.inject({ method: 'POST', url: '/orders' })
  const [row] = await call('list_requests', { status: '5' })
  t.match(row, { path: '/orders', status: 502 })
  const story = await call('get_story', { id: row.requestId })
  t.match(story, { errors: [{ message: 'the charge failed' }, { message: 'card refused' }] })
  t.match(await call('get_story', { id: 'x' }), { error: 'no request x is kept' })
})

test('a tool says how the service is set up', async (t) => {
  const { call } = await connect(t)
  const { options, signals } = await call('get_setup')
  t.ok(options.length > 40)
  t.match(signals.lines, { to: ["the application's stream"] })
})
