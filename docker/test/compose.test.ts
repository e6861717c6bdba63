import { existsSync, readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { test } from 'tap'
import { parse } from 'yaml'

interface Service {
  image: string
  build?: object
  ports?: string[]
  volumes?: string[]
  healthcheck?: { test: string[] }
  mem_limit?: string
  restart?: string
  profiles?: string[]
  depends_on?: Record<string, { condition: string }>
  [key: string]: unknown
}

const HERE = new URL('../', import.meta.url)
const read = (file: string) => readFileSync(new URL(file, HERE), 'utf8')
const yaml = (file: string) => parse(read(file), { merge: true })
interface Compose {
  services: Record<string, Service>
  volumes: Record<string, null>
}

const compose: Compose = yaml('compose.yaml')
const { pyroscope, ...profiledServices }: Compose['services'] = yaml('compose.profiles.yaml').services
const services = Object.entries(compose.services)
const env = Object.fromEntries(
  Object.entries(parseEnv(read('.env'))).map(([name, value = '']) => [name, value.replace(/\$\{(\w+)\}/g, pinned)])
)

function pinned(_: string, name: string): string {
  return parseEnv(read('.env'))[name] ?? ''
}

/** What each image has to ask for its health with. The collector's has nothing, so it has no health check. */
const PROGRAMS: Record<string, string[]> = {
  'otel/opentelemetry-collector-contrib': [],
  'jaegertracing/jaeger': ['wget'],
  'grafana/tempo': ['/tempo'],
  'grafana/loki': ['/usr/bin/loki'],
  'grafana/grafana': ['wget'],
  'prom/prometheus': ['wget'],
  'prom/alertmanager': ['wget'],
  postgres: ['pg_isready'],
  'valkey/valkey': ['valkey-cli'],
  'fastify-observability/orders': ['node'],
  'fastify-observability/payments': ['node'],
  'fastify-observability/load': ['node']
}

function image({ image }: Service): string {
  return image.replace(/\$\{(\w+)\}/g, (_, name) => env[name] ?? '')
}

test('pins every image that is not built here to one release, in docker/.env', async (t) => {
  const images = services.filter(([, { build }]) => !build)
  t.same(
    images.filter(([, { image }]) => !/^\$\{\w+_IMAGE\}$/.test(image)),
    []
  )
  t.same(
    images.map(([, service]) => image(service)).filter((name) => !/^[\w./-]+:v?\d+\.\d+(\.\d+)?$/.test(name)),
    []
  )
})

test('pins the Node of the images to the one the tests run on', async (t) => {
  const { catalog } = parse(read('../pnpm-workspace.yaml'))
  t.match(env.NODE_IMAGE, new RegExp(`^node:${catalog.node}-`))
  t.match(read('../examples/Dockerfile'), `ARG NODE_IMAGE=${env.NODE_IMAGE}\n`)
})

test('gives every port to this machine only, and none twice', async (t) => {
  const ports = services.flatMap(([, { ports = [] }]) => ports)
  t.same(
    ports.filter((port) => !/^127\.0\.0\.1:\$\{[A-Z_]+_PORT:-\d+\}:\d+$/.test(port)),
    []
  )
  t.equal(new Set(ports.map((port) => port.split('}')[0])).size, ports.length)
  for (const port of ['3000', '8000', '9090', '16686']) t.ok(ports.some((given) => given.includes(`_PORT:-${port}}:`)))
})

test('asks for health with programs that are in the images, and has a health check wherever one can be', async (t) => {
  for (const [name, service] of services) {
    if (service.restart === 'no') continue
    const programs = PROGRAMS[image(service).replace(/:.*/, '')]
    const [kind, program = ''] = service.healthcheck?.test ?? []
    if (service.healthcheck) t.ok(kind === 'CMD' && programs?.includes(program), `${name} has ${program}`)
    else t.ok(name === 'load' || programs?.length === 0, `${name} has none`)
  }
})

test('waits only for the health of services that have a health check', async (t) => {
  for (const [name, { depends_on = {} }] of services) {
    for (const [other, { condition }] of Object.entries(depends_on)) {
      const { healthcheck, restart } = compose.services[other] ?? {}
      const possible =
        restart === 'no' ? 'service_completed_successfully' : healthcheck ? 'service_healthy' : 'service_started'
      t.equal(condition, possible, `${name} waits for ${other}`)
    }
  }
})

test('limits the memory of every container, and lets none gain privileges', async (t) => {
  t.same(
    services.filter(([, { mem_limit }]) => !mem_limit).map(([name]) => name),
    []
  )
  const free = services.filter(([, { security_opt, restart }]) => !security_opt && restart !== 'no')
  t.same(
    free.map(([name]) => name),
    []
  )
})

test('runs the examples on a read-only root, without capabilities and not as root', async (t) => {
  const examples = services.filter(([, { build }]) => build)
  t.same(
    examples.map(([name]) => name),
    ['orders', 'payments', 'load']
  )
  for (const [, { read_only, cap_drop }] of examples) t.same([read_only, cap_drop], [true, ['ALL']])
  t.match(read('../examples/Dockerfile').split('FROM').at(-1), /\nUSER node\n/)
})

test('mounts files that exist, read-only, and volumes that are declared', async (t) => {
  for (const mount of services.flatMap(([, { volumes = [] }]) => volumes)) {
    const [source = '', , mode] = mount.split(':')
    if (source.startsWith('./')) t.ok(existsSync(new URL(source, HERE)) && mode === 'ro', mount)
    else t.ok(source in compose.volumes, mount)
  }
})

test('keeps Grafana from replacing its data sources, and gives it room', async (t) => {
  const { environment, mem_limit } = compose.services.grafana ?? { image: '' }
  t.match(environment, {
    GF_PLUGINS_PREINSTALL_AUTO_UPDATE: 'false',
    GF_PLUGINS_PREINSTALL_DISABLED: 'true',
    GF_SERVER_ENABLE_GZIP: 'false'
  })
  t.equal(mem_limit, '1g')
})

test('names the caller of a root span by nothing that the called service itself has', async (t) => {
  const { peer_attributes } = yaml('tempo.yaml').metrics_generator.processor.service_graphs
  t.notOk(peer_attributes.includes('server.address'))
})

test('needs the memory that the README says', async (t) => {
  const mebibytes = services
    .filter(([, { profiles }]) => !profiles)
    .map(([, { mem_limit = '' }]) => Number.parseInt(mem_limit, 10) * (mem_limit.endsWith('g') ? 1024 : 1))
    .reduce((sum, limit) => sum + limit, 0)
  t.match(read('README.md'), `${(mebibytes / 1024).toFixed(1)} GiB`)
})

test('needs as much for the light way in as the README says', async (t) => {
  const { services }: { services: Record<string, { mem_limit: string }> } = yaml('test/configurations/lgtm.yaml')
  const bytes = Object.values(services).reduce((sum, { mem_limit }) => sum + Number(mem_limit), 0)
  t.match(read('README.md'), `Its limits add up to ${(bytes / 2 ** 30).toFixed(0)} GiB`)
})

test('gives the light way in the data sources, dashboards and rules of the stack', async (t) => {
  const { volumes } = yaml('compose.lgtm.yaml').services.collector
  const sources = volumes.map((volume: string) => volume.split(':')[0])
  for (const source of [
    'grafana/provisioning/datasources/datasources.yaml',
    'grafana/dashboards',
    'prometheus/rules'
  ]) {
    t.ok(sources.includes(`./${source}`) && existsSync(new URL(source, HERE)), source)
  }
})

test('makes the same series of spans the light way', async (t) => {
  const light = yaml('tempo.lgtm.yaml')
  const { metrics_generator, overrides, query_frontend, backend_worker } = yaml('tempo.yaml')
  t.match(light, { overrides, query_frontend, backend_worker })
  t.same(light.metrics_generator.processor, metrics_generator.processor)
  // Where the collector of the image sends to.
  t.equal(light.distributor.receivers.otlp.protocols.http.endpoint, 'localhost:4418')
})

test('keeps the data of PostgreSQL 18 where that version has it', async (t) => {
  t.match(env.POSTGRES_IMAGE, 'postgres:18.')
  t.same(compose.services.postgres?.volumes, ['postgres:/var/lib/postgresql'])
})

test('starts Alertmanager only with the profile alerting', async (t) => {
  t.same(
    services.filter(([, { profiles }]) => profiles).map(([name, { profiles }]) => [name, profiles]),
    [['alertmanager', ['alerting']]]
  )
})

test('names the containers that the configurations talk to', async (t) => {
  const targets = ['services', 'components'].flatMap((file) => yaml(`prometheus/targets/${file}.yaml`))
  const { datasources } = yaml('grafana/provisioning/datasources/datasources.yaml')
  const hosts = [
    ...targets.flatMap(({ targets }: { targets: string[] }) => targets.map((target) => target.replace(/:.*/, ''))),
    ...datasources.map(({ url }: { url: string }) => new URL(url).hostname),
    ...[...read('compose.yaml').matchAll(/(?:\/\/|@|: )([a-z]+):\d{4}/g)].map(([, host]) => host)
  ]
  t.same(
    hosts.filter((host) => !compose.services[host]),
    // That of compose.profiles.yaml.
    ['pyroscope']
  )
  t.ok(hosts.length > 12)
})

test('holds Pyroscope to what the other containers are held to', async (t) => {
  const { image: name = '', ports, healthcheck, mem_limit, volumes, ...rest } = pyroscope ?? {}
  t.match(image({ image: name }), /^grafana\/pyroscope:\d+\.\d+\.\d+$/)
  t.match(ports, [/^127\.0\.0\.1:\$\{PYROSCOPE_PORT:-4040\}:4040$/])
  t.same(healthcheck?.test, ['CMD', '/usr/bin/profilecli', 'ready', '--url=http://127.0.0.1:4040'])
  t.equal(mem_limit, '512m')
  t.match(rest, { security_opt: ['no-new-privileges:true'], restart: 'unless-stopped' })
  t.same(volumes, ['./pyroscope.yaml:/etc/pyroscope/pyroscope.yaml:ro', 'pyroscope:/data'])
})

test('has the services of the stack, and of the light way in, push to Pyroscope where it runs', async (t) => {
  const environment = { PYROSCOPE_SERVER_ADDRESS: 'http://pyroscope:4040' }
  const { orders, payments, collector } = yaml('compose.lgtm.yaml').services
  t.match(
    [profiledServices, { orders, payments }],
    Array(2).fill({ orders: { environment }, payments: { environment } })
  )
  t.ok(collector.networks.default.aliases.includes('pyroscope'))
  for (const { environment } of services.map(([, service]) => service))
    t.notMatch(environment, { PYROSCOPE_SERVER_ADDRESS: String })
})

test('has no key that the pinned versions have removed', async (t) => {
  const tempo = yaml('tempo.yaml')
  t.notOk('ingester' in tempo || 'compactor' in tempo, 'Tempo 3')
  t.notOk('version' in compose, 'Compose')
  t.equal(yaml('loki.yaml').schema_config.configs.at(-1).schema, 'v13', 'Loki 3')
  for (const file of ['collector', 'collector.grafana', 'collector.native', 'collector.gateway', 'collector.vendor']) {
    const { exporters = {}, processors = {} } = yaml(`${file}.yaml`)
    t.notMatch(
      Object.keys({ ...exporters, ...processors }).join(),
      /\b(loki|otlp|otlphttp|jaeger|batch|logging)\b(?!_)(?<!\/\w+)/
    )
  }
})

test('drops the instance from what Loki indexes, and keeps the trace id of each line', async (t) => {
  const { resource_attributes } = yaml('loki.yaml').limits_config.otlp_config
  t.same(
    resource_attributes.attributes_config.flatMap(({ attributes }: { attributes: string[] }) => attributes),
    ['service.name', 'deployment.environment.name']
  )
  t.equal(resource_attributes.ignore_defaults, true)
})

test('lets the queue of the collector outlive it, and bounds it', async (t) => {
  const { exporters } = parse(read('collector.grafana.yaml'), { merge: true })
  for (const [name, { sending_queue }] of Object.entries<{ sending_queue: Record<string, unknown> }>(exporters)) {
    t.equal(sending_queue.storage, 'file_storage', name)
  }
  t.equal(exporters['otlp_http/loki'].sending_queue.queue_size, 50_000)
  t.equal(compose.services.collector?.depends_on?.['collector-queue']?.condition, 'service_completed_successfully')
})
