import type { ServerResponse } from 'node:http'

/** Whether the headers went out: @fastify/express defines a `headersSent` of its own on each response, which stays false. */
export function hasSentHeaders(response: ServerResponse): boolean {
  return Reflect.get(Object.getPrototypeOf(response), 'headersSent', response) === true
}
