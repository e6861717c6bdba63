// CommonJS, as Jest has it by default.
const { clocks } = require('./clocks.mjs')
const { suite } = require('./suite.mjs')

suite(test)
clocks(
  test,
  // Without these two, Fastify itself does not start.
  () => jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask'] }),
  () => jest.useRealTimers()
)
