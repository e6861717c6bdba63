import type { Agent, ClientRequest, IncomingMessage } from 'node:http'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { clearTimeout, monotonicMs, setTimeout } from '@fastify-observability/observation/internal'
import type { Answer, Connection } from './connection.ts'
import type { Destination } from './destination.ts'
import { httpFailure, networkFailure, rejectedIn, TIMED_OUT } from './failure.ts'

// A partial success is some words long.
const MAX_ANSWER_BYTES = 64 * 1024

const zip = promisify(gzip)

export function connectHttp({ url, headers, compression, tls }: Destination): Connection {
  const requests = new Set<ClientRequest>()
  let opening: Promise<{ request: typeof import('node:http').request; agent: Agent }> | undefined
  let isClosed = false

  async function create() {
    const { Agent, request } = url.protocol === 'https:' ? await import('node:https') : await import('node:http')
    return { request, agent: new Agent({ keepAlive: true, ...tls }) }
  }
  function open() {
    opening ??= create()
    return opening
  }

  return {
    open,
    async send(body, timeoutMs) {
      const startedAt = monotonicMs()
      const { request, agent } = await open()
      const content = compression === 'gzip' ? await zip(body) : body
      if (isClosed) return TIMED_OUT
      return new Promise<Answer>((resolve) => {
        const call = request(url, {
          method: 'POST',
          agent,
          headers: {
            'user-agent': 'fastify-observability',
            ...headers,
            'content-type': 'application/x-protobuf',
            'content-length': content.length,
            ...(compression === 'gzip' && { 'content-encoding': 'gzip' })
          }
        })
        const timer = setTimeout(end, Math.max(1, timeoutMs - (monotonicMs() - startedAt)), TIMED_OUT)
        function end(answer: Answer): void {
          clearTimeout(timer)
          requests.delete(call)
          resolve(answer)
          // Without effect on a call that is over.
          if (answer === TIMED_OUT) call.destroy()
        }
        requests.add(call)
        call.on('error', (error) => end(networkFailure(error)))
        call.on('response', (response) => {
          read(response).then(
            (answer) => end(answerOf(response, answer)),
            (error) => end(networkFailure(error))
          )
        })
        call.end(content)
      })
    },
    close() {
      isClosed = true
      for (const call of requests) call.destroy()
      opening?.then(
        ({ agent }) => agent.destroy(),
        () => undefined
      )
    }
  }
}

async function read(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response) {
    size += chunk.length
    if (size <= MAX_ANSWER_BYTES) chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function answerOf({ statusCode = 0, headers }: IncomingMessage, body: Buffer): Answer {
  if (statusCode < 200 || statusCode > 299) return httpFailure(statusCode, headers['retry-after'])
  return { rejected: headers['content-type'] === 'application/x-protobuf' ? rejectedIn(body) : 0 }
}
