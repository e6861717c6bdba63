import { test } from 'tap'
import type { Cost, Round } from '../sample.ts'
import { intervalOfStarts, ratio } from '../statistics.ts'

const cost = (userUs: number): Cost => ({ userUs, systemUs: 0, perSecond: 0, p50Ms: 0, p99Ms: 0 })
/** One start of one round, in which `ours` took so many times bare. */
const start = (times: number): Round[] => [
  { bare: { full: cost(10), rssBytes: 0 }, ours: { full: cost(10 * times), rssBytes: 0 } }
]
const ours = (rounds: Round[]): number | undefined => ratio(rounds, 'ours', ({ full }) => full.userUs)

test('the interval of twelve starts leaves out two at each end', async (t) => {
  const starts = [12, 1, 11, 2, 10, 3, 9, 4, 8, 5, 7, 6].map(start)
  t.strictSame(intervalOfStarts(starts, ours), [3, 10])
})

test('six starts give an interval, five none', async (t) => {
  t.strictSame(intervalOfStarts([1, 2, 3, 4, 5, 6].map(start), ours), [1, 6])
  t.equal(intervalOfStarts([1, 2, 3, 4, 5].map(start), ours), undefined)
})
