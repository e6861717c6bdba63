import type { IngestAnswer } from '@fastify-observability/testing/ingest'
import type { Cell } from '../cell.ts'
import { until } from '../patience.ts'

const MAX_EQUAL = 10

function answering(answer: IngestAnswer): Cell['begin'] {
  return ({ ingest }) => {
    const before = ingest.events.length
    ingest.answer = answer
    return async () => {
      await until(() => ingest.events.length > before)
      ingest.answer = { status: 200 }
      return ingest.events.length - before
    }
  }
}

const LOSES = { events: 'the SDK sends nothing twice' }

export const sentryCells: Cell[] = [
  {
    name: 'Sentry: refuses connections',
    expected: 'lost events are counted',
    loses: LOSES,
    async begin({ ingest, ingestFront }) {
      // Events of before the SDK is loaded wait for it.
      await until(() => ingest.events.length > 0)
      await ingestFront.set('refused')
      return async () => {
        await ingestFront.set('open')
        return 1
      }
    }
  },
  {
    name: 'Sentry: never answers',
    expected: 'lost events are counted after 10 s',
    loses: LOSES,
    begin: answering('hang')
  },
  { name: 'Sentry: resets connections', expected: 'lost events are counted', loses: LOSES, begin: answering('reset') },
  {
    name: 'Sentry: 429 with Retry-After',
    expected: 'lost events are counted',
    loses: { events: 'Sentry wants none for a second, and the SDK keeps none' },
    begin: answering({ status: 429, headers: { 'retry-after': '1' } })
  },
  { name: 'Sentry: 413', expected: 'lost events are counted', loses: LOSES, begin: answering({ status: 413 }) },
  { name: 'Sentry: 500', expected: 'lost events are counted', loses: LOSES, begin: answering({ status: 500 }) },
  {
    name: 'Sentry: a storm of errors',
    expected: 'ten equal events a minute',
    setting: { options: { sentry: { maxEventsPerMinute: 60, maxEqualEventsPerMinute: MAX_EQUAL } } },
    loses: { events: 'what is beyond the limits of a minute is not sent' },
    isLasting: true,
    begin: (_stage, traffic) => async () => {
      await until(() => traffic.failures > MAX_EQUAL)
      return 1
    }
  }
]
