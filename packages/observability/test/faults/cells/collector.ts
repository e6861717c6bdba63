import { type Certificate, selfSigned } from '@fastify-observability/testing/certificate'
import type { Answer } from '@fastify-observability/testing/collector'
import type { Cell } from '../cell.ts'
import type { Passage } from '../front.ts'
import { until } from '../patience.ts'
import { isMissing } from '../programs.ts'
import type { Protocol, Setting } from '../stage.ts'

type Fault = Pick<Cell, 'begin'>

const EVERYTHING = ['spans', 'records', 'points', 'lines'] as const
/** An HTTP/2 frame that has clients end what they have begun, on this connection, and open another one. */
const GOAWAY = Buffer.from('0000080700000000007fffffff00000000', 'hex')

/** The way to the collector is broken. */
function passage(wanted: Passage): Fault {
  return {
    async begin({ front }) {
      // Only what is open can be seen to be refused.
      if (wanted === 'refused') await until(() => front.clients > 0)
      await front.set(wanted)
      return async () => {
        await until(() => front.strikes > 0)
        await front.set('open')
        return front.strikes
      }
    }
  }
}

/** The collector answers each call like this. */
function answering(answer: Answer): Fault {
  return {
    begin(stage) {
      stage.answer = answer
      return async () => {
        await until(() => stage.strikes > 0)
        stage.answer = 'accept'
        return stage.strikes
      }
    }
  }
}

/** Something that happens to all connections, again and again. */
function repeating(strike: 'cut' | 'goaway', everyMs: number): Fault {
  return {
    begin({ front }) {
      let strikes = 0
      const timer = setInterval(() => {
        strikes++
        if (strike === 'cut') front.cut()
        else front.inject(GOAWAY)
      }, everyMs)
      return () => {
        clearInterval(timer)
        return strikes
      }
    }
  }
}

const untrusted: Fault = {
  begin({ front }) {
    front.present(selfSigned())
    return async () => {
      await until(() => front.strikes > 0)
      front.present(trusted())
      return front.strikes
    }
  }
}

let certificate: Certificate | undefined

/** One for all cells, because it takes a program to make it. */
function trusted(): Certificate {
  certificate ??= selfSigned()
  return certificate
}

/** For a fault that lasts as long as the service. */
const always: Fault = { begin: () => () => 1 }

function losing(why: string): Cell['loses'] {
  return Object.fromEntries(EVERYTHING.map((signal) => [signal, why]))
}

function cellsOf(protocol: Protocol): Cell[] {
  const isGrpc = protocol === 'grpc'
  const words = isGrpc ? 'gRPC' : 'HTTP'
  function cell(name: string, fault: Fault, more: Partial<Cell> = {}, setting: Setting = {}): Cell {
    return {
      name: `collector over ${words}: ${name}`,
      expected: more.loses || more.mayLose ? 'lost items are counted' : 'nothing lost',
      setting: { protocol, ...setting },
      ...fault,
      ...more
    }
  }
  const final = (code: number, status: number): Fault => answering(isGrpc ? { code } : { status })
  return [
    cell('refuses connections', passage('refused')),
    cell('never answers', passage('silent')),
    cell('resets connections', passage('reset')),
    cell(
      'answers with garbage',
      passage('garbage'),
      isGrpc
        ? { mayLose: losing('to gRPC an answer in another protocol is final, until the connection is known as bad') }
        : {}
    ),
    cell('ends connections, idle or not', repeating('cut', 700)),
    ...(isGrpc ? [cell('sends GOAWAY', repeating('goaway', 700))] : []),
    cell(isGrpc ? 'UNAVAILABLE' : '503', final(14, 503)),
    cell(
      isGrpc ? 'RESOURCE_EXHAUSTED with RetryInfo' : '429 with Retry-After',
      answering(isGrpc ? { code: 8, retryAfterSeconds: 1 } : { status: 429, retryAfterSeconds: 1 })
    ),
    cell(isGrpc ? 'RESOURCE_EXHAUSTED' : '402', final(8, 402), {
      loses: losing('a quota without a delay is final')
    }),
    cell(isGrpc ? 'INVALID_ARGUMENT' : '400', final(3, 400), { loses: losing('the refusal is final') }),
    cell('accepts a part', answering({ rejected: 1 }), { loses: losing('what is rejected must not be sent again') }),
    cell('is slow', answering({ delayMs: 1_500 })),
    cell('shows a wrong certificate', untrusted, {
      missing: isMissing('openssl', 'version'),
      setting: async () => ({ protocol, certificate: trusted() })
    }),
    cell(
      'has an unknown name',
      always,
      { loses: losing('nobody of that name is there'), isLasting: true },
      {
        env: {
          OTEL_EXPORTER_OTLP_ENDPOINT: `http://collector.invalid:${isGrpc ? 4317 : 4318}`,
          OTEL_BSP_EXPORT_TIMEOUT: '3000',
          OTEL_BLRP_EXPORT_TIMEOUT: '3000',
          OTEL_METRIC_EXPORT_TIMEOUT: '3000'
        }
      }
    ),
    cell('takes 16 KB a request', always, {}, { maxRequestBytes: 16_384 })
  ]
}

export const collectorCells: Cell[] = [...cellsOf('grpc'), ...cellsOf('http/protobuf')]
