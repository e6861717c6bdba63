/** Decorates an app whose callers need a token. */
export const TOKEN: unique symbol = Symbol.for('fastify-observability.token')
