/** A request, and what answer, line, span, metric and event say of it. */
export interface Ask {
  path: string
  /** @default 'GET' */
  method?: string
  headers?: Record<string, string>
  body?: string | FormData
  /** @default HTTP/1.1 */
  over?: 'http2' | 'websocket'
  status: number
  route: string
  /** The error's code, or its class. */
  error?: string
  /** The span's. @default method and route */
  name?: string
  /** What the answer's body contains. */
  answered?: RegExp
  /** Asked again until the status is right. */
  eventually?: boolean
  /** Load shedding answers: an error of none, with no event. */
  shed?: boolean
  /** The upstream answers with the headers it got. */
  forwards?: boolean
}

export interface Service {
  file: string
  /** @default the file */
  title?: string
  /** What Node runs. @default the file */
  args?: string[]
  env?: Record<string, string>
  /** Where the suite's metrics are. @default '/metrics' */
  metrics?: string
  /** Written in TypeScript with decorators, which Node does not run. */
  compile?: boolean
  asks: Ask[]
}

/** Packages that are installed together, and the services that use them. */
export interface Project {
  name: string
  packages: string[]
  services: Service[]
}

const ORDER: Ask = { path: '/orders/7?token=secret', status: 200, route: '/orders/:id', answered: /7/ }
const BOOM: Ask = { path: '/boom', status: 500, route: '/boom', error: 'TypeError' }
const MISSING: Ask = { path: '/nowhere', status: 404, route: 'unmatched' }
const LEGACY: Ask = { path: '/legacy/orders', status: 200, route: 'unmatched' }
const GRAPHQL = { path: '/graphql', method: 'POST', headers: { 'content-type': 'application/json' }, route: '/graphql' }

function upload(bytes: number): FormData {
  const form = new FormData()
  form.set('file', new Blob(['x'.repeat(bytes)]), 'order.csv')
  return form
}

const NEST_PACKAGES = [
  'rxjs',
  'reflect-metadata',
  '@types/node@24',
  '@sentry/node@11',
  '@opentelemetry/api@>=1.10.0 <1.11.0'
]
const NEST_SERVICE: Service = {
  file: 'nest.ts',
  args: ['built/nest.js'],
  compile: true,
  asks: [ORDER, BOOM, MISSING, { path: '/orders/0', status: 404, route: '/orders/:id' }]
}

const PLUGINS: Service[] = [
  { file: 'express.mjs', asks: [ORDER, BOOM, MISSING, LEGACY] },
  { file: 'middie.mjs', asks: [ORDER, BOOM, MISSING, LEGACY] },
  {
    file: 'http-proxy.mjs',
    asks: [
      { path: '/api/orders/7', status: 200, route: '/api/*', forwards: true },
      { path: '/dead/orders/7', status: 500, route: '/dead/*', error: 'FST_REPLY_FROM_INTERNAL_SERVER_ERROR' },
      MISSING
    ]
  },
  {
    file: 'reply-from.mjs',
    asks: [
      { path: '/orders/7', status: 200, route: '/orders/:id', forwards: true },
      { path: '/dead', status: 500, route: '/dead', error: 'UND_ERR_SOCKET' }
    ]
  },
  {
    file: 'compress.mjs',
    asks: [ORDER, BOOM, { path: '/export', status: 200, route: '/export', answered: /^one two$/ }]
  },
  {
    file: 'static.mjs',
    asks: [
      { path: '/files/static.mjs', status: 200, route: '/files/*', answered: /import\.meta\.dirname/ },
      { path: '/files/missing.txt', status: 404, route: '/files/*' },
      MISSING
    ]
  },
  {
    file: 'multipart.mjs',
    asks: [
      { path: '/uploads', method: 'POST', body: upload(100), status: 200, route: '/uploads', answered: /100/ },
      { path: '/uploads', method: 'POST', body: upload(2000), status: 413, route: '/uploads' }
    ]
  },
  {
    file: 'websocket.mjs',
    asks: [{ path: '/chat/7', over: 'websocket', status: 101, route: '/chat/:room', answered: /^echo hello$/ }]
  },
  {
    file: 'sse.mjs',
    asks: [
      { path: '/events', headers: { accept: 'text/event-stream' }, status: 200, route: '/events', answered: /two/ },
      { path: '/broken', headers: { accept: 'text/event-stream' }, status: 500, route: '/broken', error: 'TypeError' }
    ]
  },
  { file: 'rate-limit.mjs', asks: [ORDER, { path: '/orders/8', status: 429, route: '/orders/:id' }] },
  { file: 'helmet.mjs', asks: [ORDER, BOOM, MISSING] },
  {
    file: 'cors.mjs',
    asks: [
      ORDER,
      {
        path: '/orders/7',
        method: 'OPTIONS',
        headers: { origin: 'https://shop.example', 'access-control-request-method': 'GET' },
        status: 204,
        route: '*'
      }
    ]
  },
  {
    file: 'swagger.mjs',
    asks: [ORDER, { path: '/openapi.json', status: 200, route: '/openapi.json', answered: /^(?!.*(health|metrics))/ }]
  },
  { file: 'session.mjs', asks: [{ path: '/visits', status: 200, route: '/visits', answered: /1/ }, BOOM] },
  { file: 'http2.mjs', asks: [ORDER, BOOM, MISSING].map((ask) => ({ ...ask, over: 'http2' as const })) },
  { file: 'under-pressure.mjs', asks: [ORDER] },
  {
    file: 'under-pressure.mjs',
    title: 'under-pressure.mjs, shedding',
    env: { MAX_RSS_BYTES: '1' },
    asks: [
      {
        path: '/orders/7',
        status: 503,
        route: '/orders/:id',
        error: 'FST_UNDER_PRESSURE',
        shed: true,
        eventually: true
      }
    ]
  },
  { file: 'fastify-metrics.mjs', metrics: '/observability/metrics', asks: [ORDER] },
  {
    file: 'own-metrics.mjs',
    metrics: '/observability/metrics',
    asks: [ORDER, { path: '/metrics', status: 200, route: '/metrics', answered: /^orders_total 3$/m }]
  },
  {
    file: 'trpc.mjs',
    asks: [
      { path: '/trpc/order?input=%227%22', status: 200, route: '/trpc/:path', answered: /7/ },
      { path: '/trpc/boom', status: 500, route: '/trpc/:path', error: 'TypeError' }
    ]
  },
  {
    file: 'mercurius.mjs',
    asks: [
      {
        ...GRAPHQL,
        body: JSON.stringify({ query: 'query Order { order(id: 7) }' }),
        status: 200,
        name: 'POST /graphql query',
        answered: /order 7/
      },
      {
        ...GRAPHQL,
        body: JSON.stringify({ query: '{ boom }' }),
        status: 200,
        name: 'POST /graphql query',
        error: 'TypeError'
      }
    ]
  },
  {
    file: 'cli/app.mjs',
    title: 'fastify-cli with autoload',
    args: [
      'node_modules/fastify-cli/cli.js',
      'start',
      '-l',
      'info',
      '--port',
      '0',
      '--address',
      '127.0.0.1',
      'cli/app.mjs'
    ],
    asks: [ORDER, BOOM, MISSING]
  },
  { file: 'aws-lambda.mjs', args: ['lambda-url.mjs', './aws-lambda.mjs'], asks: [ORDER, BOOM, MISSING] }
]

const PLUGIN_PACKAGES = [
  '@opentelemetry/api@>=1.10.0 <1.11.0',
  '@sentry/node@11',
  '@fastify/autoload@6',
  '@fastify/aws-lambda@6',
  '@fastify/compress@9',
  '@fastify/cookie@11',
  '@fastify/cors@11',
  '@fastify/express@4',
  '@fastify/helmet@13',
  '@fastify/http-proxy@11',
  '@fastify/middie@9',
  '@fastify/multipart@10',
  '@fastify/rate-limit@11',
  '@fastify/reply-from@12',
  '@fastify/session@11',
  '@fastify/sse@0.6',
  '@fastify/static@10',
  '@fastify/swagger@9',
  '@fastify/under-pressure@9',
  '@fastify/websocket@11',
  '@trpc/server@11',
  'fastify-cli@8',
  'fastify-metrics@14',
  'graphql@16',
  'mercurius@16'
]
// Of the peer range.
const LOWEST_FASTIFY = '5.10.0'

export const PROJECTS: Project[] = [
  { name: 'plugins', packages: ['fastify@5', ...PLUGIN_PACKAGES], services: PLUGINS },
  {
    name: 'lowest',
    packages: [`fastify@${LOWEST_FASTIFY}`, ...PLUGIN_PACKAGES],
    services: PLUGINS.map((service) => ({
      ...service,
      title: `${service.title ?? service.file}, Fastify ${LOWEST_FASTIFY}`
    }))
  },
  ...['11', '12'].map((major): Project => {
    const nest = ['common', 'core', 'platform-fastify'].map((part) => `@nestjs/${part}@${major}`)
    return {
      name: `nest-${major}`,
      // The Fastify that NestJS 11 pins, so that there is one copy and one set of types.
      packages: [...nest, ...NEST_PACKAGES, ...(major === '11' ? ['fastify@5.11.3'] : [])],
      services: [{ ...NEST_SERVICE, title: `NestJS ${major}` }]
    }
  })
]
