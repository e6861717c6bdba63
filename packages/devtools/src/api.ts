import { isRecord, type Registry } from '@fastify-observability/observation/internal'
import type { FastifyInstance } from 'fastify'
import { routeRows } from './latency.ts'
import type { Recorder } from './recorder.ts'
import type { Runtime } from './runtime.ts'
import { setupOf } from './setup.ts'
import { type RequestRow, type RowFilter, rowsOf, storyOf, withoutSecrets } from './view.ts'

/** What the page and the tools can ask for, all of it without secrets. */
export interface Api {
  requests(filter: RowFilter): RequestRow[]
  /** Requests and jobs that came too fast to be recorded. */
  readonly unrecorded: number
  /** @param id of a row, a request, a job or a trace. */
  story(id: string): Promise<object | undefined>
  routes(): Promise<object>
  runtime(): object
  health(): Promise<object>
  delivery(): object
  setup(): object
}

interface Sources {
  registry: Registry
  recorder: Recorder
  runtime: Runtime
  links: Readonly<Record<string, string>>
  given: object
}

export function createApi(app: FastifyInstance, { registry, recorder, runtime, links, given }: Sources): Api {
  const { stories } = recorder
  return {
    requests: (filter) => rowsOf(stories.values(), registry.redactor, filter),
    get unrecorded() {
      return recorder.unrecorded
    },
    async story(id) {
      const story =
        stories.get(id) ??
        Array.from(stories.values()).findLast(({ head }) => head.requestId === id || head.traceId === id)
      return story && storyOf(story, stories, registry.redactor, links)
    },
    routes: async () => ({ timeMs: Date.now(), uptimeS: process.uptime(), rows: (await routeRows(app)) ?? [] }),
    runtime: () => ({ samples: runtime.samples }),
    async health() {
      // Of the health part, which no part imports.
      const health: unknown = app.hasDecorator('health') ? Reflect.get(app, 'health') : undefined
      if (!isRecord(health) || typeof health.check !== 'function') return { status: 'unknown', checks: {} }
      const state: unknown = await health.check()
      return isRecord(state) ? { ...state } : {}
    },
    delivery: () => ({
      destinations: registry.descriptions.deliveries().map((one) => withoutSecrets(one, registry.redactor))
    }),
    setup: () => setupOf(app, registry, recorder, given)
  }
}

/** Serves it as JSON below `path`. */
export function serveApi(scope: FastifyInstance, path: string, api: Api): void {
  scope.get<{ Querystring: Record<string, string> }>(`${path}/requests`, async ({ query }) => {
    const { route, status, text, slowerThanMs, limit } = query
    const requests = api.requests({ route, status, text, slowerThanMs: number(slowerThanMs), limit: number(limit) })
    return { requests, unrecorded: api.unrecorded }
  })
  scope.get<{ Params: { id: string } }>(`${path}/requests/:id`, async ({ params: { id } }, reply) => {
    const story = await api.story(id)
    return story ?? reply.code(404).send({ statusCode: 404, error: 'Not Found', message: `no request ${id} is kept` })
  })
  for (const view of ['routes', 'runtime', 'health', 'delivery', 'setup'] as const) {
    scope.get(`${path}/${view}`, async () => api[view]())
  }
}

function number(text: string | undefined): number | undefined {
  const value = Number(text)
  return text === undefined || text === '' || Number.isNaN(value) ? undefined : value
}
