import { GCProfiler, getHeapStatistics } from 'node:v8'
import { addRoutes } from './routes.ts'
import { isVariant, type Variant, variants } from './variants.ts'
import { addWork } from './work.ts'

/** What the server has used since it began, asked for over IPC so that start-up and warm-up can be left out. */
export interface Usage {
  userUs: number
  systemUs: number
  rssBytes: number
}

/** What it answers over IPC. */
export type Question = 'usage' | 'watch allocation' | 'allocated bytes'

const [name] = process.argv.slice(2)
const { BENCH_OTLP = '', BENCH_OTLP_HTTP = '', BENCH_DSN = '' } = process.env
const { BENCH_DATABASE_URL: connectionString, BENCH_ROUTES } = process.env
if (!isVariant(name)) throw new Error(`the variants are ${Object.keys(variants).join(', ')}`)

const { build, work, tools }: Variant = variants[name]
if (!build) throw new Error(`${name} does not run in Node`)
const app = await build({ endpoint: BENCH_OTLP, httpEndpoint: BENCH_OTLP_HTTP, dsn: BENCH_DSN })
addRoutes(app, work, connectionString ? new (await import('pg')).Pool({ connectionString, max: 10 }) : undefined)
if (BENCH_ROUTES) addWork(app, await tools?.(app), Number(BENCH_ROUTES))
const url = await app.listen({ host: '127.0.0.1', port: 0 })

process.on('disconnect', () => process.exit())
let collections = new GCProfiler()
let usedAtStart = 0
process.on('message', (question: Question) => process.send?.(answer(question)))
process.send?.(url)

function answer(question: Question): Usage | number {
  if (question === 'watch allocation') return watchAllocation()
  if (question === 'allocated bytes') return allocatedBytes()
  const { userCPUTime, systemCPUTime } = process.resourceUsage()
  return { userUs: userCPUTime, systemUs: systemCPUTime, rssBytes: process.memoryUsage.rss() }
}

function watchAllocation(): number {
  collections = new GCProfiler()
  usedAtStart = getHeapStatistics().used_heap_size
  collections.start()
  return usedAtStart
}

/** What the heap grew by between one collection and the next, over all of them. */
function allocatedBytes(): number {
  let bytes = 0
  let used = usedAtStart
  for (const { beforeGC, afterGC } of collections.stop().statistics) {
    bytes += beforeGC.heapStatistics.usedHeapSize - used
    used = afterGC.heapStatistics.usedHeapSize
  }
  return bytes + getHeapStatistics().used_heap_size - used
}
