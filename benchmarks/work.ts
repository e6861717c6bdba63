import type { FastifyInstance } from 'fastify'

/** What growing work is made with, where a variant has it. */
export interface Tools {
  /** Runs a function in a span of its own. */
  withSpan(name: string, fn: () => void): void
  /** A counter with one label. */
  counter(name: string): { inc(labels: { item: string }): void }
}

const counted = {
  params: { type: 'object', properties: { count: { type: 'integer' } } },
  response: { 200: { type: 'object', properties: { count: { type: 'integer' } } } }
} as const

interface Counted {
  Params: { count: number }
}

// Further values of one label go to `__overflow__`.
const SERIES_A_METRIC = 500

/** Routes that do as much as their path says, and as many others as are asked for. */
export function addWork(app: FastifyInstance, tools: Tools | undefined, routes: number): void {
  app.get<Counted>('/lines/:count', { schema: counted }, async ({ params: { count }, log }) => {
    for (let step = 0; step < count; step++) log.info({ user: 17, step }, 'looking it up')
    return { count }
  })
  app.get<Counted>('/spans/:count', { schema: counted }, async ({ params: { count } }) => {
    for (let step = 0; step < count; step++) tools?.withSpan('look up', () => undefined)
    return { count }
  })
  app.get<Counted>('/series/:count', { schema: counted }, async ({ params: { count } }) => {
    for (let index = 0; index < count; index++) {
      const metric = `app_items_${Math.floor(index / SERIES_A_METRIC)}_total`
      tools?.counter(metric).inc({ item: `item-${index % SERIES_A_METRIC}` })
    }
    return { count }
  })
  for (let index = 0; index < routes; index++) {
    app.get<Counted>(`/route-${index}/:count`, { schema: counted }, async ({ params }) => params)
  }
}
