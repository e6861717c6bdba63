import { readFileSync } from 'node:fs'
import type { Agent } from 'node:http'
import { ExportResultCode, getStringFromEnv, parseKeyPairsIntoRecord } from '@opentelemetry/core'
import type { SpanExporter } from '@opentelemetry/sdk-trace'
import * as v from 'valibot'

/** One attempt: how many spans of an accepted batch were rejected, or why the batch was not accepted. */
export type Sent = { rejected: number } | { error: unknown }

export interface Connection {
  /** Loads the exporter, which takes a while. The first `send` does it too. */
  open(): Promise<unknown>
  /** Sends an ExportTraceServiceRequest. */
  send(request: Uint8Array): Promise<Sent>
  close(): Promise<void>
}

const NAME = '@fastify-observability/tracing'

// What gRPC takes as text, checked here because the exporter that refuses it is loaded later.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests
const HEADER_NAME = /^(?!.*-bin$)[:\w.-]+$/i
const HEADER_VALUE = /^[ -~]*$/

/** @throws TypeError for OTEL_EXPORTER_OTLP_HEADERS that cannot be sent. */
export function connectGrpc(url: string, timeoutMillis: number): Connection {
  const headers = Object.entries({
    ...parseKeyPairsIntoRecord(process.env.OTEL_EXPORTER_OTLP_HEADERS),
    ...parseKeyPairsIntoRecord(process.env.OTEL_EXPORTER_OTLP_TRACES_HEADERS)
  })
  if (!headers.every(([name, value]) => HEADER_NAME.test(name) && HEADER_VALUE.test(value))) {
    throw new TypeError(`${NAME}: OTEL_EXPORTER_OTLP_HEADERS must be name=value pairs of printable ASCII`)
  }
  return loadedLater(async () => {
    const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-grpc')
    const exporter = new OTLPTraceExporter({ url, timeoutMillis })
    return connectionOf(exporter, () => exporter.shutdown())
  })
}

export function connectHttp(endpoint: string, timeoutMillis: number): Connection {
  return loadedLater(async () => {
    const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-proto')
    // Upstream's own agent keeps its sockets when the exporter has shut down.
    let agent: Agent | undefined
    const exporter = new OTLPTraceExporter({
      url: tracesUrl(endpoint),
      timeoutMillis,
      async httpAgentOptions(scheme) {
        const { Agent } = scheme === 'http:' ? await import('node:http') : await import('node:https')
        agent = new Agent({
          keepAlive: true,
          ...(scheme === 'https:' && {
            ca: pem('CERTIFICATE'),
            cert: pem('CLIENT_CERTIFICATE'),
            key: pem('CLIENT_KEY')
          })
        })
        return agent
      }
    })
    return connectionOf(exporter, async () => {
      agent?.destroy()
      await exporter.shutdown()
    })
  })
}

/** The exporters are a third of what tracing loads, and nothing is to be sent while the application starts. */
function loadedLater(connect: () => Promise<Omit<Connection, 'open'>>): Connection {
  let connecting: ReturnType<typeof connect> | undefined
  function open(): ReturnType<typeof connect> {
    connecting ??= connect()
    return connecting
  }
  return {
    open,
    send: async (request) => (await open()).send(request),
    close: async () => (await connecting?.catch(() => undefined))?.close()
  }
}

/** @see https://opentelemetry.io/docs/specs/otel/protocol/exporter/#endpoint-urls-for-otlphttp */
function tracesUrl(endpoint: string): string {
  if (endpoint === process.env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) return endpoint
  const url = new URL(endpoint)
  if (!url.pathname.endsWith('/v1/traces')) url.pathname = `${url.pathname.replace(/\/$/, '')}/v1/traces`
  return url.href
}

function pem(name: string): Buffer | undefined {
  const file = getStringFromEnv(`OTEL_EXPORTER_OTLP_TRACES_${name}`) ?? getStringFromEnv(`OTEL_EXPORTER_OTLP_${name}`)
  return file === undefined ? undefined : readFileSync(file)
}

const delegateSchema = v.object({
  _serializer: v.looseObject({ serializeRequest: v.function(), deserializeResponse: v.function() })
})
const partialSuccessSchema = v.object({
  partialSuccess: v.object({ rejectedSpans: v.pipe(v.number(), v.minValue(0)) })
})

/** Upstream's exporter for requests that are encoded already. */
function connectionOf(exporter: SpanExporter, close: () => Promise<void>): Omit<Connection, 'open'> {
  const delegate: unknown = Reflect.get(exporter, '_delegate')
  if (!v.is(delegateSchema, delegate)) throw new Error(`${NAME}: this version of the OTLP exporter is not supported`)
  const serializer = delegate._serializer
  let encoded: Uint8Array
  let rejected = 0
  delegate._serializer = {
    ...serializer,
    serializeRequest: () => encoded,
    // Upstream reports a partial success as a success and only logs its number. It reads the response in the same tick
    // as it calls back, so the number belongs to the call that is answered next.
    deserializeResponse(bytes) {
      const response = serializer.deserializeResponse(bytes)
      if (v.is(partialSuccessSchema, response)) rejected = response.partialSuccess.rejectedSpans
      return response
    }
  }
  return {
    send(request) {
      return new Promise((resolve) => {
        // Asked for by the call below, before it returns.
        encoded = request
        exporter.export([], ({ code, error }) => {
          resolve(code === ExportResultCode.SUCCESS ? { rejected } : { error })
          rejected = 0
        })
      })
    },
    close: () => close().catch(() => undefined)
  }
}
