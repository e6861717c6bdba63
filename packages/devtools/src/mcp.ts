import type { FastifyInstance } from 'fastify'
import manifest from '../package.json' with { type: 'json' }
import type { Api } from './api.ts'

const filterOf = ({ z }: typeof import('zod')) => ({
  route: z.string().optional().describe('part of the route or of the name of a job, such as /orders'),
  status: z.string().optional().describe('a status or its beginning: "404", "5", for jobs "failed"'),
  slowerThanMs: z.number().optional().describe('only what took longer'),
  text: z.string().optional().describe('part of the path, an id or the error'),
  limit: z.number().int().min(1).max(500).default(20)
})

/** Serves the data of the page to tools, over the Model Context Protocol without sessions. */
export function serveMcp(scope: FastifyInstance, path: string, api: Api): void {
  scope.post(path, async (request, reply) => {
    // Loaded by the first who asks.
    const [{ McpServer }, { StreamableHTTPServerTransport }, zod] = await Promise.all([
      import('@modelcontextprotocol/sdk/server/mcp.js'),
      import('@modelcontextprotocol/sdk/server/streamableHttp.js'),
      import('zod')
    ])
    const server = new McpServer({ name: 'fastify-observability', version: manifest.version })
    server.registerTool(
      'list_requests',
      { description: 'The last requests and jobs of this service, newest first.', inputSchema: filterOf(zod) },
      async (wanted) => {
        const { unrecorded } = api
        const missing = unrecorded > 0 && `${unrecorded} requests or jobs came too fast to be recorded`
        return textOf(api.requests(wanted), ...(missing ? [missing] : []))
      }
    )
    server.registerTool(
      'get_story',
      {
        description:
          'All that is known of one request or job: its lines (those below the level too), spans, statements, error with source lines, headers without secrets.',
        inputSchema: { id: zod.z.string().describe('the id of list_requests, an x-request-id or a trace id') }
      },
      async ({ id }) => textOf((await api.story(id)) ?? { error: `no request ${id} is kept` })
    )
    server.registerTool(
      'get_setup',
      { description: 'How the observability of this service is set up, where its signals go, and what looks wrong.' },
      async () => textOf(api.setup())
    )
    const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true })
    reply.hijack()
    reply.raw.once('close', () => void server.close())
    await server.connect(transport)
    await transport.handleRequest(request.raw, reply.raw, request.body)
  })
  // Nothing is sent that was not asked for.
  scope.route({
    method: ['GET', 'DELETE'],
    url: path,
    exposeHeadRoute: false,
    handler: async (_request, reply) =>
      reply.code(405).header('allow', 'POST').send({ statusCode: 405, error: 'Method Not Allowed' })
  })
}

function textOf(data: unknown, ...notes: string[]): { content: { type: 'text'; text: string }[] } {
  return { content: [JSON.stringify(data), ...notes].map((text) => ({ type: 'text', text })) }
}
