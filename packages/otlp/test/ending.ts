// A process that gives items of a signal to a collector that never answers, and then closes.

import { SIGNALS } from './producer.ts'

const [, , wanted, endpoint = ''] = process.argv
const start = SIGNALS.find(([signal]) => signal === wanted)?.[1]
if (!start) throw new Error(`no signal ${wanted}`)
const producer = start(endpoint, 1_000)
producer.end(10)
void producer.flush()
const started = performance.now()
await producer.close()
const closed = performance.now()
const counts = producer.counts()
process.on('exit', () =>
  console.log(JSON.stringify({ closing: closed - started, ending: performance.now() - closed, counts }))
)
