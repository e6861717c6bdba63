/** What is registered first in every instance. */
export const CONFIGURATIONS = [
  'observation',
  'request-id',
  'tracing',
  'metrics',
  'health',
  'logging',
  'umbrella'
] as const
export type Configuration = (typeof CONFIGURATIONS)[number]
/** A configuration, or none. */
export type Mode = Configuration | 'plain'

/** A package whose tarball on npm carries its tests. */
export interface Suite {
  name: string
  /** Globs of its test files. */
  files: string[]
  /** Files that need a process of their own, or fail plainly. */
  alone?: string[]
  /** Files that are left out, each with the reason. */
  without?: Record<string, string>
}

const TEST_FILES = ['test/**/*.test.js']

export const SUITES: Suite[] = [
  {
    name: 'fastify',
    files: ['test/**/*.test.{js,mjs}'],
    alone: [
      // These subscribe to what all apps of a process publish.
      'test/diagnostics-channel/',
      'test/conditional-pino.test.js',
      // Modules that these load define the tests.
      'test/esm/index.test.js',
      'test/options.',
      'test/patch.',
      'test/put.',
      'test/internals/schema-controller-perf.test.js'
    ],
    without: { 'test/build/error-serializer.test.js': 'which checks generated code with ESLint and makes no instance' }
  },
  { name: '@fastify/websocket', files: TEST_FILES },
  {
    name: '@fastify/reply-from',
    files: TEST_FILES,
    alone: [
      // These stop the clock, or take over all requests, of their process.
      'test/base-path.test.js',
      'test/host-header.test.js',
      'test/http-timeout.test.js',
      'test/http2-',
      'test/on-error.test.js',
      'test/undici-connect-timeout.test.js',
      'test/undici-global-agent.test.js',
      'test/undici-timeout',
      // Fail plainly where the paths of sockets are not as they expect.
      'test/unix-http'
    ],
    without: {
      'test/connect-timeout.test.js': 'which needs an address that never answers',
      'test/http2-timeout-disabled.test.js': 'which waits half a minute for timeouts that do not come'
    }
  },
  { name: '@fastify/http-proxy', files: ['test/*.js'] },
  { name: '@fastify/static', files: TEST_FILES, alone: ['test/static.test.js'] },
  {
    name: '@fastify/multipart',
    files: TEST_FILES,
    alone: ['test/multipart-incomplete-upload.test.js'],
    without: {
      'test/big.test.js': 'which takes half a minute to upload a gigabyte',
      'test/generate-id.test.js': 'which takes ten seconds and makes no instance'
    }
  },
  { name: '@fastify/compress', files: TEST_FILES },
  { name: '@fastify/cors', files: TEST_FILES },
  { name: '@fastify/cookie', files: TEST_FILES },
  {
    name: '@fastify/rate-limit',
    files: TEST_FILES,
    without: { 'test/redis-rate-limit.test.js': 'which needs a Redis at its usual port' }
  },
  { name: '@fastify/sse', files: TEST_FILES }
]
