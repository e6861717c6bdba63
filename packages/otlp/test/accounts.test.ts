import { test } from 'tap'
import { openAccounts } from '../src/accounts.ts'
import { rejectedIn } from '../src/failure.ts'

const naming = { series: 'span', plural: 'spans', hasProcessor: true }

test('counts what is under way at the close as lost there, and its late answers no more', async (t) => {
  const warnings: unknown[] = []
  const accounts = openAccounts(naming, (...warning) => warnings.push(warning))
  accounts.take(3)
  accounts.handOver(3)
  accounts.close()
  accounts.delivered(1)
  accounts.lost('export_failed', 2, 'late')
  const [exported] = accounts.series
  const counts = [...(exported?.collect() ?? [])].flatMap(([{ error_type }, count]) =>
    count ? [[error_type, count]] : []
  )
  t.same(counts, [['shutdown', 3]])
  t.equal(accounts.held(), 0)
  t.same(warnings, [[3, 'shutdown']])
})

test('counts on when the log throws', async (t) => {
  const accounts = openAccounts(naming, () => {
    throw new Error('ENOSPC: no space left on device')
  })
  accounts.take(1)
  t.doesNotThrow(() => accounts.drop('too_large', 1))
  t.doesNotThrow(() => accounts.close())
})

test('takes a negative number of rejected items for none', async (t) => {
  const minusOne = [...Array<number>(9).fill(0xff), 0x01]
  t.equal(rejectedIn(Uint8Array.of(0x0a, 0x0b, 0x08, ...minusOne)), 0)
  t.equal(rejectedIn(Uint8Array.of(0x0a, 0x02, 0x08, 0x05)), 5)
})
