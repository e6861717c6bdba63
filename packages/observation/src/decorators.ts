import type { FastifyInstance } from 'fastify'

import { documented } from './docs.ts'

/** Decorators that a part makes, and what to do where another plugin makes one of the same name, in a sentence. */
export type Claims = Map<string, string>

const METHODS = ['decorate', 'decorateRequest'] as const

/**
 * Makes the error for a decorator that exists already name its owner and the option that moves it, in either order. Fastify's
 * own names neither.
 */
export function explainTaken(app: FastifyInstance, claims: Claims): void {
  for (const method of METHODS) {
    const decorate = app[method]
    Object.assign(app, {
      [method](this: FastifyInstance, ...args: unknown[]): unknown {
        try {
          return Reflect.apply(decorate, this, args)
        } catch (error) {
          throw explained(error, claims.get(String(args[0])))
        }
      }
    })
  }
}

function explained(error: unknown, sentence: string | undefined): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (sentence === undefined || code !== 'FST_ERR_DEC_ALREADY_PRESENT') return error
  return Object.assign(documented(new Error(sentence, { cause: error }), 'registered-late-or-twice'), { code })
}
