import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Pool } from 'pg'

const byId = {
  params: { type: 'object', properties: { id: { type: 'integer' } } },
  response: {
    200: {
      type: 'object',
      properties: { id: { type: 'integer' }, name: { type: 'string' }, active: { type: 'boolean' } }
    }
  }
} as const

/** What every variant serves: a small answer and, with a database, one query. */
export function addRoutes(
  app: FastifyInstance,
  work: ((request: FastifyRequest) => void) | undefined,
  pool: Pool | undefined
): void {
  app.get<{ Params: { id: number } }>('/users/:id', { schema: byId }, async (request) => {
    const { id } = request.params
    work?.(request)
    return { id, name: 'Ada Lovelace', active: true }
  })
  if (!pool) return
  app.get<{ Params: { id: number } }>('/stored-users/:id', { schema: byId }, async ({ params: { id } }, reply) => {
    const { rows } = await pool.query('select id, name, active from users where id = $1', [id])
    return rows[0] ?? reply.code(404).send()
  })
}
