import { requireOf } from '@fastify-observability/observation/internal'

export type SDK = typeof import('@sentry/node')

const require = requireOf(import.meta.url)

/** The copy that a CommonJS application has loaded, which would otherwise get a second one, for ES modules. */
function required(): SDK | undefined {
  try {
    const path = require.resolve('@sentry/node')
    return path in require.cache ? require(path) : undefined
  } catch {
    return undefined
  }
}

/** Whether somebody in this process uses it already. Of an ES module that is imported and not used yet nobody knows. */
export function isInUse(): boolean {
  return '__SENTRY__' in globalThis || required() !== undefined
}

/** Whether it is found without being loaded; a bundle that has it within does not find it. */
export function isFound(): boolean {
  try {
    return import.meta.resolve('@sentry/node') !== ''
  } catch {
    return false
  }
}

/** Loads the SDK, `undefined` where it is not installed. */
export async function loadSDK(): Promise<SDK | undefined> {
  try {
    return required() ?? (await import('@sentry/node'))
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND') return undefined
    throw error
  }
}
