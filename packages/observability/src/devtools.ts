import { isRecord, withDocs } from '@fastify-observability/observation/internal'
import type { FastifyInstance } from 'fastify'
import { hasToken } from './management.ts'

type Devtools = typeof import('@fastify-observability/devtools')

interface Page extends Pick<Devtools, 'default' | 'spanProcessor'> {
  options: object
}

const MISSING =
  'fastify-observability: the developer page needs its package: npm install --save-dev @fastify-observability/devtools'

/** Whether the page is asked for: services in production often run without NODE_ENV, behind a proxy on loopback. */
export function wantsDevtools(option: object | boolean | undefined, management: FastifyInstance | undefined): boolean {
  const { NODE_ENV } = process.env
  if (option === undefined) return NODE_ENV === 'development'
  return option !== false && (NODE_ENV !== 'production' || (management !== undefined && hasToken(management)))
}

/** The package, which is loaded where it is wanted only, and may not be installed there. */
export async function loadDevtools(
  app: FastifyInstance,
  option: object | boolean | undefined
): Promise<Page | undefined> {
  try {
    const { default: plugin, spanProcessor } = await import('@fastify-observability/devtools')
    return { default: plugin, spanProcessor, options: isRecord(option) ? option : {} }
  } catch (err) {
    // Nobody has asked for it.
    if (option === undefined) return undefined
    app.log.warn(withDocs('missing-packages', { err }), MISSING)
    return undefined
  }
}
