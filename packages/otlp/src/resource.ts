import type { Service } from '@fastify-observability/observation/internal'
import { SDK_INFO } from '@opentelemetry/core'
import { containerDetector } from '@opentelemetry/resource-detector-container'
import {
  detectResources,
  envDetector,
  hostDetector,
  type Resource,
  resourceFromAttributes,
  serviceInstanceIdDetector
} from '@opentelemetry/resources'

// Found once for a process: the instance's id is made up, and the signals must agree on it.
let found: Resource | undefined

function find(): Resource {
  return resourceFromAttributes({
    ...SDK_INFO,
    'process.pid': process.pid,
    'process.runtime.name': 'nodejs',
    'process.runtime.version': process.versions.node
  }).merge(detectResources({ detectors: [hostDetector, serviceInstanceIdDetector, containerDetector] }))
}

/**
 * Who the telemetry is about, the same for spans, log records and points: host, process, container, what the environment
 * says, and the service with its attributes.
 */
export function resourceOf({ name, version, environment, attributes = {} }: Service): Resource {
  found ??= find()
  return found.merge(detectResources({ detectors: [envDetector] })).merge(
    resourceFromAttributes({
      ...attributes,
      'service.name': name,
      'service.version': version,
      'deployment.environment.name': environment
    })
  )
}
