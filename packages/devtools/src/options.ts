import { parseOptions } from '@fastify-observability/observation/internal'
import type { FastifyInstance } from 'fastify'
import * as v from 'valibot'

/** Options of the developer page. */
export interface DevtoolsOptions {
  /**
   * Addresses of other tools that show a request, by their names: `{trace_id}` and `{request_id}` in them stand for its ids.
   * @default {}
   */
  links?: Record<string, string>
  /** Another Fastify app that serves the page, such as the one of a management listener. @default this app */
  management?: FastifyInstance
  /** What the parts of the suite were given, by part, for the view of the set-up. @default {} */
  given?: object
}

export const NAME = '@fastify-observability/devtools'
const LINKS_RULE = 'an object of http:// or https:// addresses'

const schema = v.strictObject({
  links: v.optional(
    v.record(v.string(), v.pipe(v.string(LINKS_RULE), v.regex(/^https?:\/\//, LINKS_RULE)), LINKS_RULE)
  ),
  management: v.optional(
    v.custom<FastifyInstance>(
      (value) => typeof value === 'object' && value !== null && 'addHook' in value,
      'a Fastify app'
    )
  ),
  given: v.optional(v.custom<object>((value) => typeof value === 'object' && value !== null, 'an object'))
})

export function resolveOptions(options: DevtoolsOptions): DevtoolsOptions {
  return parseOptions<DevtoolsOptions>(NAME, schema, options)
}
