import { once } from 'node:events'
import { createServer } from 'node:http'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import type { Ends } from './variants.ts'

// Takes spans and error events and looks at neither: what it costs to understand them is not the service's.
const EMPTY = Buffer.alloc(0)
const asItIs = (bytes: Buffer): Buffer => bytes

const collector = new Server({ 'grpc.max_receive_message_length': -1 })
collector.addService(
  {
    Export: {
      path: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
      requestStream: false,
      responseStream: false,
      requestSerialize: asItIs,
      requestDeserialize: asItIs,
      responseSerialize: asItIs,
      responseDeserialize: asItIs
    }
  },
  { Export: (_call: unknown, answer: (error: null, response: Buffer) => void) => answer(null, EMPTY) }
)
const { promise, resolve, reject } = Promise.withResolvers<number>()
collector.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
  error ? reject(error) : resolve(port)
)

const overHttp = createServer((request, response) => {
  request.resume().once('end', () => {
    if (request.url === '/v1/traces') response.setHeader('content-type', 'application/x-protobuf').end()
    else if (request.url?.startsWith('/api/1/envelope/'))
      response.setHeader('content-type', 'application/json').end('{}')
    else response.writeHead(404).end()
  })
}).listen(0, '127.0.0.1')
await once(overHttp, 'listening')
const address = overHttp.address()
const httpHost = `127.0.0.1:${typeof address === 'object' ? address?.port : undefined}`

process.on('disconnect', () => process.exit())
process.send?.({
  endpoint: `http://127.0.0.1:${await promise}`,
  httpEndpoint: `http://${httpHost}`,
  dsn: `http://key@${httpHost}/1`
} satisfies Ends)
