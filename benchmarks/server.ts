import { addRoutes } from './routes.ts'
import { isVariant, type Variant, variants } from './variants.ts'
import { addWork } from './work.ts'

/** What the server has used since it began, asked for over IPC so that start-up and warm-up can be left out. */
export interface Usage {
  userUs: number
  systemUs: number
  rssBytes: number
}

const [name] = process.argv.slice(2)
const { BENCH_OTLP = '', BENCH_DSN = '', BENCH_DATABASE_URL: connectionString, BENCH_ROUTES } = process.env
if (!isVariant(name)) throw new Error(`the variants are ${Object.keys(variants).join(', ')}`)

const { build, work, tools }: Variant = variants[name]
const app = await build({ endpoint: BENCH_OTLP, dsn: BENCH_DSN })
addRoutes(app, work, connectionString ? new (await import('pg')).Pool({ connectionString, max: 10 }) : undefined)
if (BENCH_ROUTES) addWork(app, await tools?.(app), Number(BENCH_ROUTES))
const url = await app.listen({ host: '127.0.0.1', port: 0 })

process.on('disconnect', () => process.exit())
process.on('message', () => {
  const { userCPUTime, systemCPUTime } = process.resourceUsage()
  process.send?.({ userUs: userCPUTime, systemUs: systemCPUTime, rssBytes: process.memoryUsage.rss() } satisfies Usage)
})
process.send?.(url)
