import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import { test } from 'tap'
import { within } from '../src/time/deadline.ts'

test('waits no time, and warns of nothing, where the time is up already', async (t) => {
  const warnings: Error[] = []
  const note = (warning: Error): number => warnings.push(warning)
  process.on('warning', note)
  t.teardown(() => process.off('warning', note))
  t.equal(await within(-5, new Promise(() => undefined)), undefined)
  await turn()
  t.same(warnings, [])
})

test('waits for as long as it takes where there is no end', async (t) => {
  for (const timeoutMs of [Number.POSITIVE_INFINITY, 1e12]) {
    t.equal(await within(timeoutMs, sleep(20, 'done')), 'done', String(timeoutMs))
  }
})
