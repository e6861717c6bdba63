import { hostname } from 'node:os'
import { withEnv } from '@fastify-observability/testing/environment'
import { test } from 'tap'
import { resourceOf } from '../src/index.ts'

const service = { name: 'shop', version: '1.2.3', environment: 'test' }

test('names service, host, process and what the environment adds', async (t) => {
  withEnv(t, { OTEL_RESOURCE_ATTRIBUTES: 'team=books,service.name=other,cloud.region=eu%20west' })
  const resource = resourceOf(service)
  await resource.waitForAsyncAttributes?.()
  t.match(resource.attributes, {
    'service.name': 'shop',
    'service.version': '1.2.3',
    'deployment.environment.name': 'test',
    'service.instance.id': /^[\da-f-]{36}$/,
    'telemetry.sdk.name': 'opentelemetry',
    'telemetry.sdk.language': 'nodejs',
    'telemetry.sdk.version': String,
    'host.name': hostname(),
    'process.pid': process.pid,
    'process.runtime.name': 'nodejs',
    'process.runtime.version': process.versions.node,
    team: 'books',
    'cloud.region': 'eu west'
  })
})

test('is the same for every signal of a process', async (t) => {
  t.same(resourceOf(service).attributes, resourceOf({ ...service }).attributes)
})
