import { readFileSync } from 'node:fs'
import { ServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor'
import { Deployment } from 'kubernetes-models/apps/v1/Deployment'
import { StatefulSet } from 'kubernetes-models/apps/v1/StatefulSet'
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1/PodDisruptionBudget'
import { Service } from 'kubernetes-models/v1/Service'
import { test } from 'tap'
import { parse, parseAllDocuments } from 'yaml'

interface Manifest {
  kind: string
  metadata: { name: string }
  // biome-ignore lint/suspicious/noExplicitAny: each kind has another form, which the schema checks
  spec: any
}

const read = (file: string) => readFileSync(new URL(`../../examples/kubernetes/${file}`, import.meta.url), 'utf8')
const { resources, configMapGenerator } = parse(read('kustomization.yaml'))
const manifests: Manifest[] = resources.flatMap((file: string) =>
  parseAllDocuments(read(file)).map((document) => document.toJS())
)
const KINDS: Record<string, new (manifest: never) => { validate(): void }> = {
  Deployment,
  StatefulSet,
  Service,
  PodDisruptionBudget,
  ServiceMonitor
}
const find = (kind: string, name: string) =>
  manifests.find((manifest) => manifest.kind === kind && manifest.metadata.name === name)
const workloads = manifests.filter(({ kind }) => ['Deployment', 'StatefulSet'].includes(kind))

for (const manifest of manifests) {
  test(`has a ${manifest.kind} ${manifest.metadata.name} that the published schema takes`, async (t) => {
    const Kind = KINDS[manifest.kind]
    if (!Kind) throw new Error(`nothing is known of ${manifest.kind}`)
    t.doesNotThrow(() => new Kind(manifest as never).validate())
  })
}

test('has the schema find a mistake', async (t) => {
  const wrong = structuredClone(find('Deployment', 'orders'))
  wrong?.spec.template.spec.containers.forEach((container: { ports: unknown }) => {
    container.ports = 8000
  })
  t.throws(() => new Deployment(wrong as never).validate(), /ports/)
})

test('runs every container without root, privileges and a root file system to write to, and bounds its memory', async (t) => {
  for (const { metadata, spec } of workloads) {
    const { securityContext, containers } = spec.template.spec
    t.equal(securityContext.runAsNonRoot, true, metadata.name)
    for (const { securityContext, resources } of containers) {
      t.match(securityContext, {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] }
      })
      t.ok(resources.limits.memory)
    }
  }
})

test('probes start, readiness and liveness on the routes of the health part', async (t) => {
  const [container] = find('Deployment', 'orders')?.spec.template.spec.containers ?? []
  const path = (probe: { httpGet: { path: string } }) => probe.httpGet.path
  t.same([container.startupProbe, container.readinessProbe, container.livenessProbe].map(path), [
    '/health/startup',
    '/health/ready',
    '/health'
  ])
})

test('gives the service more time to end than it waits before it begins to', async (t) => {
  const { terminationGracePeriodSeconds, containers } = find('Deployment', 'orders')?.spec.template.spec ?? {}
  t.ok(terminationGracePeriodSeconds >= containers[0].lifecycle.preStop.sleep.seconds + 30)
})

test('sends what selects and what scrapes to pods and ports that exist', async (t) => {
  const labels = workloads.map(({ spec }) => spec.template.metadata.labels['app.kubernetes.io/name'])
  const ports = workloads.flatMap(({ spec }) =>
    spec.template.spec.containers.flatMap((container: { ports: { name: string }[] }) =>
      container.ports.map(({ name }) => name)
    )
  )
  for (const { metadata, spec } of manifests.filter(({ kind }) => kind === 'Service')) {
    t.ok(labels.includes(spec.selector['app.kubernetes.io/name']), metadata.name)
    for (const { targetPort } of spec.ports) t.ok(ports.includes(targetPort), `${metadata.name}: ${targetPort}`)
  }
  t.match(find('ServiceMonitor', 'orders')?.spec, {
    endpoints: [{ port: 'http', relabelings: [{ targetLabel: 'job', replacement: 'services' }] }]
  })
})

test('runs the pinned collector with the files of docker/, as many replicas as find each other by one name', async (t) => {
  const { spec } = find('StatefulSet', 'collector') ?? {}
  const [{ image, args, env }] = spec.template.spec.containers
  const [, version] = /OTELCOL_VERSION=(.+)/.exec(readFileSync(new URL('../.env', import.meta.url), 'utf8')) ?? []
  t.equal(image, `otel/opentelemetry-collector-contrib:${version}`)
  const base = (file: string) => file.replace(/.*\//, '')
  t.same(args.map(base), configMapGenerator[0].files.map(base))
  const replicas = env.find(({ name }: { name: string }) => name === 'GATEWAY_REPLICAS').value
  t.equal(find('Service', replicas)?.spec.clusterIP, 'None')
})
