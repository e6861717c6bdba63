import { CONFIGURATIONS, type Configuration } from './tested.ts'

/** A test that differs, and may. */
export interface Kept {
  suite: string
  file: string
  test: string
  configurations: readonly Configuration[]
  reason: string
  /** Its failure takes minutes to print, or holds up what comes after it: it is not run. */
  endless: boolean
}

interface Group {
  reason: Reason
  suite: string
  configurations: readonly Configuration[]
  /** Their names, by file. */
  tests: Record<string, string[]>
  endless?: boolean
}

type Reason = keyof typeof REASONS

// Each stands in the README of its part.
const REASONS = {
  plugins:
    "The observation is a plugin: it is in the plugin's displayName, in printPlugins(), and in what is called for every register().",
  hooks:
    "Fastify's lists of hooks, which the test counts, have those of the observation; messages that name the last hook may name none.",
  routes: 'The routes /metrics and /health are there: onRoute hooks and printRoutes() see them.',
  headers: 'Every answer has x-request-id, x-correlation-id and server-timing, those of the request.',
  ids: 'An id from the caller comes before genReqId, and instead of req-1, which is unique in one process only, there is a UUID.',
  lines:
    "One canonical line takes the place of Fastify's lines of a request, level is a word, time is ISO 8601, reqId is request_id.",
  startLines: 'A logger that is no pino has the lines of the start too: what is instrumented and where spans go.',
  boundLogger:
    "The logger of a request is bound to it: never the factory's very object, nor the one that Fastify without a logger has for all.",
  pino: 'The logging part is pino.',
  responseState: 'A response carries the observation of its request, so that no two are deeply equal.'
} as const

const GROUPS: Group[] = [
  {
    reason: 'plugins',
    suite: 'fastify',
    configurations: ['metrics', 'umbrella'],
    tests: {
      'test/schema-feature.test.js': ['Schema controller bucket'],
      'test/schema-special-usage.test.js': ["serializer read validator's schemas"]
    }
  },
  {
    reason: 'plugins',
    suite: 'fastify',
    configurations: CONFIGURATIONS,
    tests: {
      'test/plugin.2.test.js': [
        'set the plugin name based on the plugin displayName symbol',
        'plugin name will change when using no encapsulation'
      ],
      'test/plugin.4.test.js': ['hasPlugin returns true when using no encapsulation'],
      'test/pretty-print.test.js': ['pretty print - empty plugins', 'pretty print - includeMeta, includeHooks']
    }
  },
  {
    reason: 'hooks',
    suite: 'fastify',
    configurations: ['metrics', 'health', 'umbrella'],
    tests: {
      'test/hooks.on-ready.test.js': ['onReady does not call done']
    }
  },
  {
    reason: 'hooks',
    suite: 'fastify',
    configurations: CONFIGURATIONS,
    tests: {
      'test/diagnostics-channel/error-before-handler.test.js': [
        'diagnostics channel handles an error before calling context handler'
      ],
      'test/hooks.test.js': ['onRequest hook should support encapsulation / 2']
    }
  },
  {
    reason: 'hooks',
    suite: '@fastify/cors',
    configurations: CONFIGURATIONS,
    tests: {
      'test/hooks.test.js': [
        'Should set hook onRequest if hook option is not set',
        'Should set hook onRequest if hook option is set to onRequest',
        'Should set hook preParsing if hook option is set to preParsing',
        'Should set hook preValidation if hook option is set to preValidation',
        'Should set hook preParsing if hook option is set to preParsing #2',
        'Should set hook preHandler if hook option is set to preHandler',
        'Should set hook preSerialization if hook option is set to preSerialization'
      ]
    }
  },
  {
    reason: 'routes',
    suite: 'fastify',
    configurations: ['metrics', 'health', 'umbrella'],
    tests: {
      'test/hooks.test.js': [
        'onRoute hook should be called / 2',
        'onRoute hook should be called / 3',
        'onRoute hook should be called (encapsulation support) / 4',
        'onRoute hook should be called (encapsulation support) / 6',
        'onRoute hook should pass correct route',
        'onRoute hook should pass correct route with custom prefix',
        'onRoute hook should not be called when it registered after route'
      ],
      'test/pretty-print.test.js': [
        'pretty print - static routes',
        'pretty print - internal tree - static routes',
        'pretty print - parametric routes',
        'pretty print - internal tree - parametric routes',
        'pretty print - mixed parametric routes',
        'pretty print - wildcard routes',
        'pretty print - internal tree - wildcard routes',
        'pretty print - commonPrefix'
      ],
      'test/route-prefix.test.js': ['reports the canonical route url for hidden prefix trailing slash route'],
      'test/router-options.test.js': ['Should honor routerOptions.buildPrettyMeta']
    }
  },
  {
    reason: 'routes',
    suite: '@fastify/static',
    configurations: ['health', 'umbrella'],
    tests: {
      'test/static.test.js': ['/static/index.html #12', '/static/index.html #13']
    }
  },
  {
    reason: 'routes',
    suite: '@fastify/static',
    configurations: ['metrics', 'health', 'umbrella'],
    tests: {
      'test/static.test.js': [
        'register /static/ with schemaHide true',
        'register /static/ with schemaHide false',
        'register /static/ without schemaHide',
        'routes should fallback to default errorHandler',
        '/static/index.html #14'
      ]
    }
  },
  {
    reason: 'headers',
    suite: 'fastify',
    configurations: ['request-id', 'umbrella'],
    tests: {
      'test/internals/reply.test.js': ['reply.getHeaders returns correct values']
    }
  },
  {
    reason: 'headers',
    suite: '@fastify/cors',
    configurations: ['request-id', 'umbrella'],
    tests: {
      'test/cors.test.js': ['Should reply 404 without cors headers when origin is false']
    }
  },
  {
    reason: 'headers',
    suite: '@fastify/sse',
    configurations: ['request-id', 'umbrella'],
    tests: {
      'test/custom-headers.test.js': ['should allow setting headers via reply.header() method']
    }
  },
  {
    reason: 'ids',
    suite: '@fastify/multipart',
    configurations: ['request-id', 'umbrella'],
    tests: {
      'test/multipart-attach-body.test.js': [
        'should be able to attach all parsed field values and files with custom "onFile" handler with access to request object bind to "this"'
      ]
    }
  },
  {
    reason: 'ids',
    suite: 'fastify',
    configurations: ['request-id', 'logging', 'umbrella'],
    tests: {
      'test/logger/request.test.js': ['The request id header key can be ignored']
    }
  },
  {
    reason: 'ids',
    suite: 'fastify',
    configurations: ['request-id', 'umbrella'],
    tests: {
      'test/genReqId.test.js': [
        'Custom genReqId function gets raw request as argument',
        'Should not alter parent of genReqId'
      ],
      'test/internals/logger.test.js': ['The logger should not reuse request id header for req.id']
    }
  },
  {
    reason: 'lines',
    suite: 'fastify',
    configurations: ['logging', 'umbrella'],
    tests: {
      'test/404s.test.js': [
        'Should fail to invoke callNotFound inside a 404 handler',
        'should honor disableRequestLogging function for 404'
      ],
      'test/hooks.test.js': ['onResponse hook should log request error'],
      'test/logger/options.test.js': [
        'Should set a custom logLevel for a plugin',
        'Should set a custom logSerializers for a plugin',
        'Should set a custom logLevel for every plugin',
        'Should set the log level for the customized 404 handler',
        'Should set the log level for the customized 500 handler',
        'Should set a custom log level for a specific route',
        '`logger` should take pino configuration and create a pino logger'
      ],
      'test/reply-error.test.js': ['Should set the response from client error handler'],
      'test/request-error.test.js': ['customErrorHandler should throw for json err and stream response'],
      'test/route.7.test.js': [
        "HEAD route should handle stream.on('error')",
        'HEAD route should handle ReadableStream.cancel() error'
      ],
      'test/router-options.test.js': [
        'Should honor disableRequestLogging function in frameworkErrors wrapper - FST_ERR_BAD_URL',
        'Should honor disableRequestLogging function in frameworkErrors wrapper - FST_ERR_MAX_PARAM_LENGTH',
        'Should honor disableRequestLogging function in frameworkErrors wrapper - FST_ERR_ASYNC_CONSTRAINT'
      ],
      'test/skip-reply-send.test.js': [
        'skip automatic reply.send() with reply.hijack and an error',
        'Calling reply.send() after hijacking logs a warning',
        'Calling reply.send() after hijacking logs a warning #2',
        'Calling reply.send() after hijacking logs a warning #3',
        'Calling reply.send() after hijacking logs a warning #4',
        'Throwing an error does not trigger any hooks #5',
        'Calling reply.send() after hijacking logs a warning #5'
      ],
      'test/stream-serializers.test.js': ['should serialize reply when response stream is ended'],
      'test/web-api.test.js': ['WebStream should warn when headers already sent']
    }
  },
  {
    reason: 'lines',
    suite: 'fastify',
    configurations: ['logging', 'umbrella'],
    endless: true,
    tests: {
      'test/logger/logging.test.js': ['defaults to info level'],
      'test/stream.3.test.js': [
        'Destroying streams prematurely',
        'Destroying streams prematurely should call close method',
        'Destroying streams prematurely should call close method when destroy is not a function'
      ],
      'test/stream.4.test.js': ['Destroying streams prematurely should call abort method']
    }
  },
  {
    reason: 'lines',
    suite: 'fastify',
    configurations: ['request-id', 'logging', 'umbrella'],
    tests: {
      'test/logger/request.test.js': ['request']
    }
  },
  {
    reason: 'lines',
    suite: 'fastify',
    configurations: ['logging', 'umbrella'],
    tests: {
      'test/404s.test.js': ['log debug for 404'],
      'test/internals/initial-config.test.js': ['Should not have issues when passing stream options to Pino.js'],
      'test/logger/instantiation.test.js': [
        'file option',
        'can use external logger instance with custom serializer',
        'The logger should accept custom serializer',
        'logger instantiation'
      ],
      'test/logger/logging.test.js': [
        'should not rely on raw request to log errors',
        'should not log if logController option disables logging',
        'should log the error if no error handler is defined',
        'should log as info if error status code >= 400 and < 500 if no error handler is defined',
        'should log as error if error status code >= 500 if no error handler is defined',
        'should not log the error if error handler is defined and it does not error',
        'test log stream',
        'test error log stream',
        'logging'
      ],
      'test/logger/options.test.js': ['Should increase the log level for a specific plugin', 'logger options'],
      'test/logger/request.test.js': [
        'The request id header key can be customized',
        'The request id header key can be customized along with a custom id generator',
        'The request id header key can be ignored along with a custom id generator',
        'The request id log label can be changed',
        'should redact the authorization header if so specified'
      ],
      'test/logger/response.test.js': [
        'Should use serializers from plugin and route',
        'Should use serializers from instance fastify and route',
        'Should use serializers inherit from contexts',
        'should serialize request and response',
        'response serialization'
      ],
      'test/versioned-routes.test.js': ['test log stream']
    }
  },
  {
    reason: 'lines',
    suite: '@fastify/compress',
    configurations: ['logging', 'umbrella'],
    tests: {
      'test/global-compress.test.js': ['It should log an existing error with stream onEnd handler']
    }
  },
  {
    reason: 'lines',
    suite: '@fastify/cors',
    configurations: ['logging', 'umbrella'],
    tests: {
      'test/preflight.test.js': [
        'Silences preflight logs when logLevel is "silent"',
        'delegator + logLevel:"silent" → OPTIONS logs are suppressed'
      ]
    }
  },
  {
    reason: 'lines',
    suite: '@fastify/reply-from',
    configurations: ['logging', 'umbrella'],
    tests: {
      'test/fastify-multipart-incompatibility.test.js': ['fastify-multipart-incompatibility']
    }
  },
  {
    reason: 'lines',
    suite: '@fastify/websocket',
    configurations: ['logging', 'umbrella'],
    endless: true,
    tests: {
      'test/base.test.js': ['Should warn if path option is provided to ws']
    }
  },
  {
    reason: 'lines',
    suite: 'fastify',
    configurations: ['logging', 'umbrella'],
    tests: {
      'test/404s.test.js': ['log debug'],
      'test/async-await.test.js': [
        'server logs an error if reply.send is called and a value is returned via async/await',
        'await reply if we will be calling reply.send in the future',
        'await reply if we will be calling reply.send in the future (error case)'
      ],
      'test/listen.4.test.js': ['listen logs the port as info'],
      'test/logger/instantiation.test.js': ['can use external logger instance'],
      'test/logger/logging.test.js': [
        'The default 404 handler logs the incoming request',
        'reply.send logs an error if called twice in a row',
        'should log incoming request and outgoing response based on disableRequestLogging function'
      ],
      'test/logger/options.test.js': [
        'Should set a custom logSerializers for every plugin',
        'Should override serializers from route',
        'Should override serializers from plugin'
      ],
      'test/router-options.test.js': [
        'Should supply Fastify request to the logger in frameworkErrors wrapper - FST_ERR_BAD_URL',
        'Should supply Fastify request to the logger in frameworkErrors wrapper - FST_ERR_MAX_PARAM_LENGTH',
        'Should supply Fastify request to the logger in frameworkErrors wrapper - FST_ERR_ASYNC_CONSTRAINT'
      ]
    }
  },
  {
    reason: 'startLines',
    suite: 'fastify',
    configurations: ['tracing'],
    tests: {
      'test/listen.4.test.js': ['listen logs the port as info']
    }
  },
  {
    reason: 'boundLogger',
    suite: 'fastify',
    configurations: ['logging', 'umbrella'],
    endless: true,
    tests: {
      'test/child-logger-factory.test.js': ['req.log should be the instance returned by the factory']
    }
  },
  {
    reason: 'boundLogger',
    suite: 'fastify',
    configurations: ['logging', 'umbrella'],
    tests: {
      'test/encapsulated-child-logger-factory.test.js': [
        'child logger factory set on root scope when using fastify-plugin'
      ],
      'test/route.5.test.js': ['route child logger factory does not affect other routes']
    }
  },
  {
    reason: 'pino',
    suite: 'fastify',
    configurations: ['logging', 'umbrella'],
    tests: {
      'test/conditional-pino.test.js': ["pino is not require'd if logger is not passed"]
    }
  },
  {
    reason: 'responseState',
    suite: 'fastify',
    configurations: CONFIGURATIONS,
    endless: true,
    tests: {
      'test/same-shape.test.js': ['same shape on Reply', 'same shape on Reply when object']
    }
  }
]

export const KEPT: Kept[] = GROUPS.flatMap(({ reason, suite, configurations, tests, endless = false }) =>
  Object.entries(tests).flatMap(([file, names]) =>
    names.map((test) => ({ suite, file, test, configurations, reason: REASONS[reason], endless }))
  )
)
