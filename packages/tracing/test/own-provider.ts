// A service that traces its calls by itself and uses the plugin for the rest.
import { once } from 'node:events'
import http from 'node:http'
import { UndiciInstrumentation } from '@opentelemetry/instrumentation-undici'
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node'

const exporter = new InMemorySpanExporter()
const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
provider.register()
new UndiciInstrumentation().setTracerProvider(provider)

const { default: Fastify } = await import('fastify')
const { default: tracing } = await import('../src/index.ts')
const peer = http.createServer(({ rawHeaders }, response) => response.end(JSON.stringify(rawHeaders))).listen(0)
await once(peer, 'listening')
const address = peer.address()
const app = Fastify()
await app.register(tracing)
app.get('/', async () => (await fetch(`http://127.0.0.1:${typeof address === 'object' && address?.port}`)).json())
const sent: string[] = (await app.inject('/')).json()
const spans = exporter.getFinishedSpans().map(({ name }) => name)
process.send?.({ traceparents: sent.filter((name) => name === 'traceparent').length, spans })
peer.close()
await app.close()
process.disconnect()
