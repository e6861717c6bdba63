// A function of AWS Lambda.
import awsLambdaFastify from '@fastify/aws-lambda'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability)
app.get('/orders/:id', async ({ params }) => params)
app.get('/boom', async () => {
  throw new TypeError('boom')
})

export const handler = awsLambdaFastify(app)
