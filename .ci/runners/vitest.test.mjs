import { test, vi } from 'vitest'
import { clocks } from './clocks.mjs'
import { suite } from './suite.mjs'

suite(test)
clocks(
  test,
  () => vi.useFakeTimers(),
  () => vi.useRealTimers()
)
