import { mock, test } from 'node:test'
import sinon from 'sinon'
import { clocks } from './clocks.mjs'
import { suite } from './suite.mjs'

suite(test)
clocks(
  test,
  () => mock.timers.enable(),
  () => mock.timers.reset()
)
clocks(
  test,
  // Without these two, Fastify itself does not start.
  () => sinon.useFakeTimers({ toNotFake: ['nextTick', 'queueMicrotask'] }),
  () => sinon.restore()
)
