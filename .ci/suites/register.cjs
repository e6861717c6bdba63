// `node --require ./register.cjs`: every instance that a test makes has the configuration of `MODE` registered first.
'use strict'

const observed = process.env.MODE
const nowhere = { write: () => true }

/** Standard output belongs to the test runner, unless the test itself asks for a logger. */
function linesOf({ logger, loggerInstance }) {
  return logger || loggerInstance ? {} : { stream: nowhere }
}

function optionsOf(options) {
  if (observed === 'logging') return linesOf(options)
  return observed === 'umbrella' ? { logging: linesOf(options) } : {}
}

/** A logger that Fastify was given is behind the one that it has. */
function streamOf(log) {
  const symbol = Object.getOwnPropertySymbols(log).find(({ description }) => description === 'pino.stream')
  if (symbol) return log[symbol]
  const behind = Object.getPrototypeOf(log)
  return behind && streamOf(behind)
}

/** The lines that say at start-up what is instrumented and where signals go, which tests that count lines would count. */
function hideStartLines(log) {
  const stream = streamOf(log)
  if (!stream || Object.hasOwn(stream, 'hidesStartLines')) return
  const { write } = stream
  stream.hidesStartLines = true
  stream.write = (line, ...rest) =>
    /"(?:msg|message)":"(?:tracing: |telemetry)/.test(line) || Reflect.apply(write, stream, [line, ...rest])
}

function replaceFactory() {
  const name = observed === 'umbrella' ? 'fastify-observability' : `@fastify-observability/${observed}`
  const { default: plugin } = require(name)
  const original = require('fastify')
  // A function, because one test calls it with `new`.
  function fastify(options = {}) {
    const app = original(options)
    hideStartLines(app.log)
    app.register(plugin, optionsOf(options))
    return app
  }
  Object.defineProperty(fastify, 'length', { value: original.length })
  require.cache[require.resolve('fastify')].exports = Object.assign(fastify, original, { fastify, default: fastify })
}

if (observed !== 'plain') replaceFactory()
