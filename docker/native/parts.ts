import { execFileSync } from 'node:child_process'
import { chownSync, cpSync, existsSync, globSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Service, startService } from '../../examples/demo/service.ts'
import { type Program, type ProgramOptions, startProgram } from './program.ts'
import { type Generator, startGenerator } from './tempo.ts'

/** A port for each thing that listens. */
export type Ports = Record<(typeof PORT_NAMES)[number], number>

/** The stack on this machine: the services, and the parts that are installed. */
export interface Stack {
  orders: Service
  payments: Service
  /** Where each part is, `undefined` where it is missing. */
  prometheus: string | undefined
  jaeger: string | undefined
  pyroscope: string | undefined
  /** The file that the collector writes log records to. */
  logFile: string | undefined
  /** The file that the collector writes spans to. */
  traceFile: string | undefined
  /** A sentence for each part that is missing: what it is for, and how it is had. */
  missing: string[]
  /** The folder with what the parts say. */
  folder: string
  /** Rejects when a part ends without having been stopped. */
  failed: Promise<never>
  /** Ends all of it, in the order that loses nothing. Resolves with the names of those that did not end well. */
  stop(): Promise<string[]>
}

export const PORT_NAMES = [
  'orders',
  'payments',
  'prometheus',
  'jaeger',
  'jaegerOtlp',
  'jaegerGrpc',
  'jaegerHealth',
  'jaegerMetrics',
  'collector',
  'collectorHttp',
  'collectorHealth',
  'collectorMetrics',
  'generator',
  'pyroscope',
  'pyroscopeGrpc',
  'pyroscopeGossip',
  'postgres',
  'redis'
] as const

/** Those that the configurations have without a variable, and the databases'. */
export const USUAL_PORTS: Ports = {
  orders: 8000,
  payments: 8001,
  prometheus: 9090,
  jaeger: 16686,
  jaegerOtlp: 14317,
  jaegerGrpc: 16685,
  jaegerHealth: 13134,
  jaegerMetrics: 8889,
  collector: 4317,
  collectorHttp: 4318,
  collectorHealth: 13133,
  collectorMetrics: 8888,
  generator: 8890,
  pyroscope: 4040,
  pyroscopeGrpc: 9095,
  pyroscopeGossip: 7946,
  postgres: 15432,
  redis: 16379
}

const HOST = '127.0.0.1'
const PROBE_MS = 2_000
/** What its parts, all in one process here, call one another by: otherwise the address of the first network. */
const PYROSCOPE_MEMBERS = [
  'memberlist.advertise-addr',
  'compactor.ring.instance-addr',
  'distributor.ring.instance-addr',
  'ingester.lifecycler.addr',
  'overrides-exporter.ring.instance-addr',
  'query-frontend.instance-addr',
  'query-scheduler.ring.instance-addr',
  'store-gateway.sharding-ring.instance-addr'
]
const DOCKER = fileURLToPath(new URL('..', import.meta.url))
const REGISTER = import.meta.resolve('fastify-observability/register')
const { env } = process

/** The program that the variable names, else the first of these that is installed. */
function find(variable: string, ...names: string[]): string | undefined {
  const given = env[variable]
  if (given) return given
  // Debian keeps PostgreSQL's programs off the PATH.
  const folders = [...(env.PATH ?? '').split(delimiter), ...globSync('/usr/lib/postgresql/*/bin').sort().reverse()]
  return names.flatMap((name) => folders.map((folder) => join(folder, name))).find((file) => existsSync(file))
}

async function answers(url: string): Promise<boolean> {
  const response = await fetch(url, { signal: AbortSignal.timeout(PROBE_MS) }).catch(() => undefined)
  await response?.arrayBuffer()
  return response?.ok === true
}

async function listens(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = connect(port, HOST, () => resolve(true)).on('error', () => resolve(false))
  const open = await promise
  socket.destroy()
  return open
}

/** Starts what is installed. @param extra further environment of the services */
export async function startStack(ports: Ports, extra: Record<string, string> = {}): Promise<Stack> {
  const folder = mkdtempSync(join(tmpdir(), 'stack-'))
  const missing: string[] = []
  const programs: Program[] = []
  const at = (port: keyof Ports) => `${HOST}:${ports[port]}`

  async function start(options: Omit<ProgramOptions, 'logFile'>): Promise<void> {
    programs.push(await startProgram({ ...options, logFile: join(folder, `${options.name}.log`) }))
  }

  async function startPostgres(): Promise<string | undefined> {
    if (env.TEST_DATABASE_URL) return env.TEST_DATABASE_URL
    const initdb = find('', 'initdb')
    const postgres = find('', 'postgres')
    if (!initdb || !postgres) {
      missing.push('PostgreSQL, so orders keeps its orders in one of its own: apt-get install postgresql')
      return undefined
    }
    const user = databaseUser()
    const data = mkdtempSync(join(tmpdir(), 'stack-postgres-'))
    cleanups.push(() => rmSync(data, { recursive: true, force: true }))
    if (user) chownSync(data, user.uid, user.gid)
    const cluster = join(data, 'data')
    execFileSync(initdb, ['-D', cluster, '-U', 'postgres', '-A', 'trust', '--no-sync'], {
      stdio: 'pipe',
      cwd: data,
      ...user
    })
    await start({
      name: 'postgres',
      command: postgres,
      args: ['-D', cluster, '-h', HOST, '-p', String(ports.postgres), '-k', data],
      cwd: data,
      // Does not wait for connections that are still open.
      signal: 'SIGINT',
      isReady: () => listens(ports.postgres),
      ...(user && { user })
    })
    return `postgres://postgres@${at('postgres')}/postgres`
  }

  async function startRedis(): Promise<string | undefined> {
    if (env.TEST_REDIS_URL) return env.TEST_REDIS_URL
    const command = find('', 'valkey-server', 'redis-server')
    if (!command) {
      missing.push('Redis or Valkey, so orders has no cache: apt-get install redis-server')
      return undefined
    }
    const args = ['--bind', HOST, '--port', String(ports.redis), '--save', '', '--dir', folder]
    await start({ name: 'redis', command, args, isReady: () => listens(ports.redis) })
    return `redis://${at('redis')}`
  }

  async function startJaeger(): Promise<string | undefined> {
    const command = find('TEST_JAEGER', 'jaeger')
    if (!command) {
      missing.push('Jaeger, so traces are not kept: export $(bash .ci/parts)')
      return undefined
    }
    await start({
      name: 'jaeger',
      command,
      args: ['--config', join(DOCKER, 'jaeger.yaml')],
      env: {
        JAEGER_OTLP_GRPC: at('jaegerOtlp'),
        JAEGER_QUERY_HTTP: at('jaeger'),
        JAEGER_QUERY_GRPC: at('jaegerGrpc'),
        JAEGER_HEALTH: at('jaegerHealth'),
        JAEGER_METRICS_PORT: String(ports.jaegerMetrics)
      },
      isReady: () => answers(`http://${at('jaegerHealth')}/status`)
    })
    return `http://${at('jaeger')}`
  }

  async function startPyroscope(): Promise<string | undefined> {
    const command = find('TEST_PYROSCOPE', 'pyroscope')
    if (!command) {
      missing.push('Pyroscope, so nothing is profiled: export $(bash .ci/parts)')
      return undefined
    }
    const data = join(folder, 'pyroscope')
    cleanups.push(() => rmSync(data, { recursive: true, force: true }))
    await start({
      name: 'pyroscope',
      command,
      args: [
        `-config.file=${join(DOCKER, 'pyroscope.yaml')}`,
        `-server.http-listen-address=${HOST}`,
        `-server.http-listen-port=${ports.pyroscope}`,
        `-server.grpc-listen-address=${HOST}`,
        `-server.grpc-listen-port=${ports.pyroscopeGrpc}`,
        `-memberlist.bind-addr=${HOST}`,
        `-memberlist.bind-port=${ports.pyroscopeGossip}`,
        ...PYROSCOPE_MEMBERS.map((member) => `-${member}=${HOST}`),
        `-pyroscopedb.data-path=${join(data, 'blocks')}`,
        '-storage.backend=filesystem',
        `-storage.filesystem.dir=${join(data, 'bucket')}`
      ],
      isReady: () => answers(`http://${at('pyroscope')}/ready`)
    })
    return `http://${at('pyroscope')}`
  }

  async function startCollector(): Promise<{ logFile: string; traceFile: string } | undefined> {
    const command = find('TEST_COLLECTOR', 'otelcol-contrib', 'otelcol')
    if (!command) {
      missing.push('the OpenTelemetry Collector, so spans and logs go nowhere: export $(bash .ci/parts)')
      return undefined
    }
    const logFile = join(folder, 'logs.jsonl')
    const traceFile = join(folder, 'traces.jsonl')
    await start({
      name: 'collector',
      command,
      args: ['--config', join(DOCKER, 'collector.yaml'), '--config', join(DOCKER, 'collector.native.yaml')],
      env: {
        COLLECTOR_OTLP_GRPC: at('collector'),
        COLLECTOR_OTLP_HTTP: at('collectorHttp'),
        COLLECTOR_HEALTH: at('collectorHealth'),
        COLLECTOR_METRICS_PORT: String(ports.collectorMetrics),
        COLLECTOR_LOGS: logFile,
        COLLECTOR_TRACES: traceFile,
        JAEGER_OTLP_GRPC: at('jaegerOtlp')
      },
      isReady: () => answers(`http://${at('collectorHealth')}`)
    })
    generators.push(await startGenerator(traceFile, HOST, ports.generator))
    return { logFile, traceFile }
  }

  async function startPrometheus(isThere: { jaeger: boolean; collector: boolean }): Promise<string | undefined> {
    const command = find('TEST_PROMETHEUS') ?? find('TEST_PROMETHEUS_3', 'prometheus')
    if (!command) {
      missing.push('Prometheus, so metrics and alerts are not kept: apt-get install prometheus')
      return undefined
    }
    const own = join(folder, 'prometheus')
    cpSync(join(DOCKER, 'prometheus'), own, { recursive: true })
    const target = (service: string, port: keyof Ports) => ({ targets: [at(port)], labels: { service } })
    const targets = {
      services: [target('orders', 'orders'), target('payments', 'payments')],
      components: [
        target('prometheus', 'prometheus'),
        ...(isThere.jaeger ? [target('jaeger', 'jaegerMetrics')] : []),
        ...(isThere.collector ? [target('collector', 'collectorMetrics')] : []),
        // Its series have the label `service` already.
        ...(isThere.collector ? [{ targets: [at('generator')] }] : [])
      ]
    }
    for (const [name, list] of Object.entries(targets)) {
      // JSON is YAML.
      writeFileSync(join(own, 'targets', `${name}.yaml`), JSON.stringify(list))
    }
    await start({
      name: 'prometheus',
      command,
      args: [
        `--config.file=${own}/prometheus.yaml`,
        `--storage.tsdb.path=${own}/data`,
        `--web.listen-address=${at('prometheus')}`,
        '--enable-feature=exemplar-storage'
      ],
      isReady: () => answers(`http://${at('prometheus')}/-/ready`)
    })
    return `http://${at('prometheus')}`
  }

  const cleanups: (() => void)[] = [() => rmSync(join(folder, 'prometheus'), { recursive: true, force: true })]
  const services: Service[] = []
  const generators: Generator[] = []

  async function stop(): Promise<string[]> {
    const unwell: string[] = []
    // The services first, which still have something to hand over; then each before what it hands on to.
    const ends = await Promise.all(
      services.map(async (service) => ({ name: service.name, well: await service.stop() }))
    )
    unwell.push(...ends.filter(({ well }) => !well).map(({ name }) => name))
    for (const program of programs.toReversed()) if (!(await program.stop())) unwell.push(program.name)
    for (const generator of generators) await generator.close()
    for (const cleanup of cleanups) cleanup()
    return unwell
  }

  try {
    mkdirSync(folder, { recursive: true })
    const databaseUrl = await startPostgres()
    const redisUrl = await startRedis()
    const jaeger = await startJaeger()
    const pyroscope = await startPyroscope()
    const { logFile, traceFile } = (await startCollector()) ?? {}
    const telemetry = {
      ...(logFile && { OTEL_EXPORTER_OTLP_ENDPOINT: `http://${at('collector')}`, OTEL_LOGS_EXPORTER: 'otlp' }),
      OTEL_RESOURCE_ATTRIBUTES: 'service.version=1.0.0,deployment.environment.name=native',
      ...(pyroscope && { PYROSCOPE_SERVER_ADDRESS: pyroscope }),
      LOG_FORMAT: 'json',
      NODE_OPTIONS: `${env.NODE_OPTIONS ?? ''} --import=${REGISTER}`,
      ...extra
    }
    const example = (path: string) => new URL(`../../examples/${path}`, import.meta.url)
    const payments = startService('payments', example('payments/server.ts'), ports.payments, telemetry)
    const orders = startService('orders', example('orders/server.ts'), ports.orders, {
      ...telemetry,
      PAYMENTS_URL: payments.url,
      ...(databaseUrl && { DATABASE_URL: databaseUrl }),
      ...(redisUrl && { REDIS_URL: redisUrl })
    })
    services.push(orders, payments)
    await Promise.race([Promise.all([orders.ready(), payments.ready()]), orders.failed, payments.failed])
    const prometheus = await startPrometheus({ jaeger: jaeger !== undefined, collector: logFile !== undefined })
    const failed = Promise.race([...services, ...programs].map((part) => part.failed))
    failed.catch(() => undefined)
    return { orders, payments, prometheus, jaeger, pyroscope, logFile, traceFile, missing, folder, failed, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** PostgreSQL refuses to run as root, and Debian brings a user for it. */
function databaseUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined
  const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }))
  return { uid: id('-u'), gid: id('-g') }
}
