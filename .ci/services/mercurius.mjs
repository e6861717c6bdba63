// GraphQL: the errors of resolvers are answered in the body, and each operation names its span.
import Fastify from 'fastify'
import observability, { currentObservation } from 'fastify-observability'
import { getOperationAST } from 'graphql'
import mercurius from 'mercurius'

const app = Fastify()
await app.register(observability)
await app.register(mercurius, {
  schema: 'type Query { order(id: ID!): String, boom: String }',
  resolvers: {
    Query: {
      order: (_root, { id }) => `order ${id}`,
      boom: () => {
        throw new TypeError('boom')
      }
    }
  },
  errorFormatter(execution, context) {
    for (const error of execution.errors) currentObservation()?.fail(error.originalError ?? error)
    return mercurius.defaultErrorFormatter(execution, context)
  }
})
app.graphql.addHook('preExecution', async (_schema, document, { reply, operationName }) => {
  const { operation, name } = getOperationAST(document, operationName) ?? {}
  // Only known operations: a caller can name one as it likes.
  reply.request.span?.updateName(`POST /graphql ${operation}`).setAttributes({
    'graphql.operation.type': operation,
    'graphql.operation.name': name?.value
  })
})
await app.listen({ port: 0, host: '127.0.0.1' })
