import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Certificate } from '@fastify-observability/testing/certificate'
import { type Answer, type Collector, type Signal, startCollector } from '@fastify-observability/testing/collector'
import { type Ingest, startIngest } from '@fastify-observability/testing/ingest'
import { type Front, openFront } from './front.ts'
import { type Service, startService } from './process.ts'

export type Protocol = 'grpc' | 'http/protobuf'

/** What a cell asks of its service and its receivers. */
export interface Setting {
  /** @default 'grpc' */
  protocol?: Protocol
  /** Of the service, before those that every cell has. */
  env?: Record<string, string>
  /** Options of the umbrella, as far as they are JSON. */
  options?: object
  /** Options of Node. */
  args?: string[]
  /** Whom the process runs as. */
  uid?: number
  /** The collector has TLS, with this certificate, which the service trusts. */
  certificate?: Certificate
  /** Called when everything has ended. */
  release?(): void
  /** What the collector takes at most. */
  maxRequestBytes?: number
  /** Where the log file is. @default a folder that is removed in the end */
  folder?: string
}

/** A service under load, with everything that it delivers to. */
export interface Stage {
  service: Service
  collector: Collector
  /** The way to the collector. */
  front: Front
  /** How the collector answers from now on. */
  answer: Answer
  /** Calls that were not simply accepted. */
  strikes: number
  ingest: Ingest
  /** The way to the ingest. */
  ingestFront: Front
  folder: string
  logFile: string
  /** The lines of the log file, also where it has another name now. */
  fileLines(): string[]
  /** The log file was deleted: what is written to it from now on reaches nobody. */
  loseFile(): void
  /** Of the file that has the name now, if there is one. */
  newFileLines(): string[]
  /** Asks the service for a fault of its own; resolves with the answer, `undefined` when there is none. */
  cause(name: string): Promise<number | undefined>
  /** Requests made by `cause`. */
  caused: number
  close(): Promise<void>
}

export async function setStage(setting: Setting): Promise<Stage> {
  const { protocol = 'grpc', certificate, maxRequestBytes, options = {}, args = [] } = setting
  const ways: Promise<unknown>[] = []
  const answer = (_call: number, _signal: Signal): Answer => {
    if (stage.answer !== 'accept') stage.strikes++
    return stage.answer
  }
  const collector = await startCollector({ protocol, answer, ...(maxRequestBytes && { maxRequestBytes }) })
  const ingest = await startIngest()
  const front = await openFront(collector.url, certificate)
  const ingestFront = await openFront(new URL(ingest.dsn).origin)
  const folder = setting.folder ?? mkdtempSync(join(tmpdir(), 'faults-'))
  const logFile = join(folder, 'app.log')
  const service = await startService(
    {
      PATH: process.env.PATH,
      NODE_ENV: 'production',
      NODE_COMPILE_CACHE: join(tmpdir(), 'faults-compiled'),
      LOG_FORMAT: 'json',
      LOG_FILE: logFile,
      OTEL_EXPORTER_OTLP_ENDPOINT: front.origin,
      OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
      OTEL_EXPORTER_OTLP_TIMEOUT: '2000',
      OTEL_LOGS_EXPORTER: 'otlp',
      OTEL_METRICS_EXPORTER: 'otlp',
      OTEL_METRIC_EXPORT_INTERVAL: '1000',
      OTEL_BSP_SCHEDULE_DELAY: '500',
      OTEL_BLRP_SCHEDULE_DELAY: '500',
      SENTRY_DSN: ingest.dsn.replace(new URL(ingest.dsn).host, new URL(ingestFront.origin).host),
      OPTIONS: JSON.stringify(options),
      ...(certificate && { OTEL_EXPORTER_OTLP_CERTIFICATE: certificate.file }),
      ...setting.env
    },
    args,
    setting.uid
  )
  const descriptor = openSync(logFile, 'r')
  let deleted: string[] | undefined

  const stage: Stage = {
    service,
    collector,
    front,
    answer: 'accept',
    strikes: 0,
    ingest,
    ingestFront,
    folder,
    logFile,
    fileLines: () => deleted ?? linesOf(descriptor),
    loseFile() {
      deleted = linesOf(descriptor)
    },
    newFileLines() {
      try {
        const other = openSync(logFile, 'r')
        const lines = fstatSync(other).ino === fstatSync(descriptor).ino ? [] : linesOf(other)
        closeSync(other)
        return lines
      } catch {
        return []
      }
    },
    async cause(name) {
      stage.caused++
      const asked = fetch(`${service.origin}/fault/${name}`, { method: 'POST' })
      ways.push(asked.catch(() => undefined))
      return asked.then(
        ({ status }) => status,
        () => undefined
      )
    },
    caused: 0,
    async close() {
      service.child.kill('SIGKILL')
      await service.ended
      await Promise.all(ways)
      closeSync(descriptor)
      await Promise.all([front.close(), ingestFront.close()])
      await Promise.all([collector.close(), ingest.close()])
      if (setting.folder === undefined) rmSync(folder, { recursive: true, force: true })
    }
  }
  return stage
}

function linesOf(descriptor: number): string[] {
  const content = Buffer.alloc(fstatSync(descriptor).size)
  readSync(descriptor, content, 0, content.length, 0)
  return content
    .toString()
    .split('\n')
    .filter((line) => line !== '')
}
