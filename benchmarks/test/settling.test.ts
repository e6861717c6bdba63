import { test } from 'tap'
import { hasSettled } from '../settling.ts'

test('costs have settled when the last three are hardly below the lowest before, whatever a busy second has cost', async (t) => {
  t.notOk(hasSettled([30, 30, 30]), 'there is one before')
  t.ok(hasSettled([30, 31, 29.8, 30]))
  t.notOk(hasSettled([40, 30, 35, 32, 29]))
  t.ok(hasSettled([40, 30, 35, 32, 29.5]))
  t.notOk(hasSettled([90, 50, 40, 35]))
})
