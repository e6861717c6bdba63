import { createRequire } from 'node:module'

/**
 * `require` as a module has it, given its `import.meta.url`; in a bundle in CommonJS, whose modules may have no address, as
 * the bundle has it.
 */
export function requireOf(moduleUrl: string | undefined): NodeJS.Require {
  return createRequire(moduleUrl ?? __filename)
}
