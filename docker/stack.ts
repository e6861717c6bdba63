// The stack without Docker: what is installed of it, with the configuration files of compose.yaml. `--check` sends traffic,
// sees what becomes of it in every part, and ends.
import { rmSync } from 'node:fs'
import { startIngest } from '@fastify-observability/testing/ingest'
import { freePorts } from '@fastify-observability/testing/ports'
import { freePort, PortError } from '../examples/demo/ports.ts'
import { logLine } from '../examples/demo/report.ts'
import { ServiceError } from '../examples/demo/service.ts'
import { sendLoad } from '../examples/load/load.ts'
import { checkStack } from './native/check.ts'
import { PORT_NAMES, type Ports, type Stack, startStack, USUAL_PORTS } from './native/parts.ts'
import { ProgramError } from './native/program.ts'

const INTERRUPTED = 130
const REQUESTS_PER_SECOND = 5

const interrupted = new Promise<typeof INTERRUPTED>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => resolve(INTERRUPTED))
})

async function anyPorts(): Promise<Ports> {
  const free = await freePorts(PORT_NAMES.length)
  return Object.fromEntries(PORT_NAMES.map((name, index) => [name, free[index] ?? 0])) as Ports
}

/** The usual ones, or what variables such as PROMETHEUS_PORT and JAEGER_OTLP_PORT name. */
async function usualPorts(): Promise<Ports> {
  const ports = { ...USUAL_PORTS }
  for (const name of PORT_NAMES) {
    const variable = `${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}_PORT`
    ports[name] = await freePort(variable, USUAL_PORTS[name])
  }
  return ports
}

/** Resolves with the exit code: 0 only if everything was seen and everything ended well. */
async function check(): Promise<number> {
  const ingest = await startIngest()
  const stack = await startStack(await anyPorts(), { SENTRY_DSN: ingest.dsn }).catch(async (error) => {
    await ingest.close()
    throw error
  })
  for (const part of stack.missing) console.log(`missing: ${part}`)
  const checks = checkStack(stack, ({ what, seen }) => console.log(`${seen ? 'seen' : 'NOT SEEN'}: ${what}`))
  const outcome = await Promise.race([checks, interrupted, stack.failed]).catch((error) => {
    console.error(error.message)
    return 1
  })
  const unwell = await stack.stop()
  await ingest.close()
  for (const name of unwell) console.log(`NOT SEEN: a clean end of ${name}`)
  if (typeof outcome === 'number') return outcome
  console.log(`${outcome.filter(({ seen }) => seen).length} of ${outcome.length} checks hold`)
  // A check of a stack with parts missing has not checked the stack.
  const holds = outcome.every(({ seen }) => seen) && unwell.length === 0
  // What the parts said is kept only where it may explain something.
  if (holds) rmSync(stack.folder, { recursive: true, force: true })
  return holds && stack.missing.length === 0 ? 0 : 1
}

function welcome({ orders, payments, prometheus, jaeger, pyroscope, logFile, missing, folder }: Stack): string {
  const places = [
    `orders      ${orders.url}`,
    `payments    ${payments.url}`,
    prometheus && `Prometheus  ${prometheus}   alerts at ${prometheus}/alerts`,
    jaeger && `Jaeger      ${jaeger}/api/v3/traces/<trace id>`,
    pyroscope && `Pyroscope   ${pyroscope}`,
    logFile && `logs        ${logFile}`,
    `output      ${folder}`
  ]
  const lines = [...places.filter(Boolean), '', ...missing.map((part) => `missing: ${part}`)]
  lines.push('missing: Grafana, Tempo and Loki, which Docker brings: docker compose -f docker/compose.yaml up --build')
  return `${lines.join('\n')}\n\n${REQUESTS_PER_SECOND} requests a second are sent; Ctrl-C ends it. Warnings and errors come below.\n`
}

async function stay(): Promise<number> {
  const stack = await startStack(await usualPorts())
  console.log(welcome(stack))
  for (const service of [stack.orders, stack.payments]) {
    service.follow((line) => {
      if (line.level !== 'info') console.log(logLine(line))
    })
  }
  const done = new AbortController()
  const load = sendLoad(REQUESTS_PER_SECOND, { url: stack.orders.url, signal: done.signal }, () => undefined)
  const code = await Promise.race([interrupted, stack.failed]).catch((error) => {
    console.error(error.message)
    return 1
  })
  done.abort()
  await load
  console.log('\nStopping …')
  await stack.stop()
  return code
}

const [flag, ...rest] = process.argv.slice(2)
if ((flag !== undefined && flag !== '--check') || rest.length > 0) {
  console.error(`stack takes --check or nothing, got ${process.argv.slice(2).join(' ')}.`)
  process.exitCode = 1
} else {
  ;(flag === '--check' ? check() : stay()).then(
    (code) => {
      process.exitCode = code
    },
    (error) => {
      const isOwn = [PortError, ServiceError, ProgramError].some((kind) => error instanceof kind)
      console.error(isOwn ? error.message : error)
      process.exitCode = 1
    }
  )
}
