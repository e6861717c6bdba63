import * as v from 'valibot'
import { applicationOf } from './application.ts'

/** Who the telemetry is about. */
export interface ServiceOptions {
  /**
   * @default OTEL_SERVICE_NAME, then service.name of OTEL_RESOURCE_ATTRIBUTES, then the name in the application's
   * package.json, then 'unknown_service:node'
   */
  name?: string
  /** @default service.version of OTEL_RESOURCE_ATTRIBUTES, then that of package.json where it gives the name, else none */
  version?: string
  /** @default deployment.environment.name of OTEL_RESOURCE_ATTRIBUTES, then NODE_ENV, then 'development' */
  environment?: string
  /** More of the resource's attributes, for all signals. @default those of OTEL_RESOURCE_ATTRIBUTES */
  attributes?: Record<string, string | number | boolean>
}

/** The service that all signals name. */
export interface Service {
  /** `service.name` of spans, records and points; `service` of lines. */
  name: string
  /** `service.version`; `undefined` where nothing says it. */
  version: string | undefined
  /** `deployment.environment.name`. */
  environment: string
  /** Those that the option adds to the environment's. */
  attributes?: Record<string, string | number | boolean>
}

const text = v.optional(v.pipe(v.string('a non-empty string'), v.minLength(1, 'a non-empty string')))

const attribute = v.union([v.string(), v.number(), v.boolean()], 'a string, a number or a boolean')
const attributes = v.optional(v.record(v.string(), attribute))

/** The schema of the `service` option, which every part takes. */
export const serviceSchema = v.optional(v.strictObject({ name: text, version: text, environment: text, attributes }))

/**
 * Fills what the option leaves open from the environment, and that from the application's package.json.
 * @see https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
 */
export function resolveService(
  { name, version, environment, attributes }: ServiceOptions = {},
  env = process.env,
  main?: string
): Service {
  const resource = resourceAttributes(env.OTEL_RESOURCE_ATTRIBUTES)
  // An empty variable counts as unset, says the specification.
  const named = name ?? (env.OTEL_SERVICE_NAME || resource.get('service.name'))
  const application = named === undefined ? applicationOf(main) : {}
  return {
    name: named ?? application.name ?? 'unknown_service:node',
    version: version ?? resource.get('service.version') ?? application.version,
    environment: environment ?? (resource.get('deployment.environment.name') || env.NODE_ENV || 'development'),
    ...(attributes && { attributes })
  }
}

function resourceAttributes(list = ''): Map<string, string> {
  const attributes = new Map<string, string>()
  for (const pair of list.split(',')) {
    const [key, value] = pair.split('=', 2).map((part) => part.trim())
    if (key && value) attributes.set(key, decode(value))
  }
  return attributes
}

function decode(value: string): string {
  try {
    return decodeURIComponent(value)
  } catch {
    return value
  }
}
