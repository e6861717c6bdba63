import { startCollector } from '@fastify-observability/testing/collector'
import { startIngest } from '@fastify-observability/testing/ingest'
import { freePort, PortError } from './ports.ts'
import { logLine, report } from './report.ts'
import { ServiceError, startService } from './service.ts'
import { readStory } from './story.ts'
import { sendRound } from './traffic.ts'

const INTERRUPTED = 130

const interrupted = new Promise<typeof INTERRUPTED>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => resolve(INTERRUPTED))
})

/** Runs the demo and resolves with its exit code: 0 only if every signal was seen. */
async function demo(once: boolean): Promise<number> {
  const ordersPort = await freePort('ORDERS_PORT', 8000)
  const paymentsPort = await freePort('PAYMENTS_PORT', 8001)
  if (ordersPort === paymentsPort) {
    throw new PortError(`Both services cannot have port ${ordersPort}: set another one, such as PAYMENTS_PORT=18001.`)
  }

  const collector = await startCollector()
  const ingest = await startIngest()
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_RESOURCE_ATTRIBUTES: 'service.version=1.0.0,deployment.environment.name=demo',
    OTEL_BSP_SCHEDULE_DELAY: '100',
    SENTRY_DSN: ingest.dsn,
    LOG_FORMAT: 'json',
    // Switches the developer page on.
    NODE_ENV: 'development'
  }
  const payments = startService('payments', new URL('../payments/server.ts', import.meta.url), paymentsPort, env)
  const orders = startService('orders', new URL('../orders/server.ts', import.meta.url), ordersPort, {
    ...env,
    PAYMENTS_URL: payments.url,
    SHUTDOWN_DELAY_MS: '0'
  })
  const stage = { orders, payments, collector, ingest }
  const failed = Promise.race([orders.failed, payments.failed])

  async function show(): Promise<number> {
    console.log(`Starting orders on ${orders.url} and payments on ${payments.url} …`)
    await Promise.all([orders.ready(), payments.ready()])
    console.log(`
  Developer page   ${orders.url}/_observability

Sending a round of requests: each of them is on the page, with its waterfall.
`)
    const round = await sendRound(orders)
    const story = await readStory(stage, round)
    console.log(report(stage, round, story))
    const missing = story.checks.filter(({ seen }) => !seen)
    for (const { what } of missing) console.log(`missing: ${what}`)
    return missing.length === 0 ? 0 : 1
  }

  async function stay(): Promise<void> {
    console.log(`
Both services stay up until Ctrl-C; what they log comes below. Open the developer page and send an order, or one that the
database refuses:

  Developer page   ${orders.url}/_observability

  curl -i ${orders.url}/orders -H 'content-type: application/json' \\
    -d '{"customer":"ada","amount":4200}'
  curl -i ${orders.url}/orders -H 'content-type: application/json' \\
    -d '{"customer":"ada\\u0000","amount":4200}'
`)
    for (const service of [orders, payments]) service.follow((line) => console.log(logLine(line)))
    await Promise.race([interrupted, failed])
    console.log('\nStopping …')
  }

  let code: number
  let endedWell: boolean[] = []
  try {
    code = await Promise.race([show(), interrupted, failed])
    if (code !== INTERRUPTED && !once) await stay()
  } finally {
    endedWell = await Promise.all([orders.stop(), payments.stop()])
    await Promise.all([collector.close(), ingest.close()])
  }
  if (endedWell.includes(false)) console.log('missing: a clean end of both services')
  return endedWell.includes(false) ? 1 : code
}

const [flag, ...rest] = process.argv.slice(2)
if ((flag !== undefined && flag !== '--once') || rest.length > 0) {
  console.error(`demo takes --once or nothing, got ${process.argv.slice(2).join(' ')}.`)
  process.exitCode = 1
} else {
  demo(flag === '--once').then(
    (code) => {
      process.exitCode = code
    },
    (error) => {
      console.error(error instanceof PortError || error instanceof ServiceError ? error.message : error)
      process.exitCode = 1
    }
  )
}
