import { test } from 'tap'
import { TraceRate } from '../src/trace-rate.ts'

/** The traces to be expected of so many requests in each second. */
function expected(rate: TraceRate, seconds: readonly number[], first = 0): number[] {
  return seconds.map((requests, second) => {
    let sum = 0
    for (let index = 0; index < requests; index++) sum += rate.of(1_000 * (first + second + index / requests))
    return sum
  })
}

test('is what was asked for while that is few', (t) => {
  t.same(expected(new TraceRate(0.5, 100), [100, 150, 200]), [50, 75, 100])
  t.end()
})

test('is lowered to so many a second, and in the first to less than twice as many', (t) => {
  const [first = 0, second = 0, third = 0] = expected(new TraceRate(0.5, 100), [10_000, 10_000, 10_000])
  t.ok(first > 100 && first < 200, `${first}`)
  t.same([second, third].map(Math.round), [100, 100])
  t.end()
})

test('lets a second begin twice as many at most on average, however many more it brings', (t) => {
  for (const most of [1, 100]) {
    for (const asked of [0.001, 0.1, 0.7, 1]) {
      const seconds = expected(new TraceRate(asked, most), [100, 1_000, 10_000, 100_000, 1_000_000])
      const sudden = expected(new TraceRate(asked, most), [100, 1_000_000])
      for (const traces of [...seconds, ...sudden]) t.ok(traces < 2 * most, `${traces} at ${asked}`)
    }
  }
  t.end()
})

test('is what was asked for again after a pause, and when fewer come', (t) => {
  const rate = new TraceRate(0.1, 100)
  expected(rate, [50_000, 50_000])
  t.same(expected(rate, [1_000, 1_000], 10).map(Math.round), [100, 100])
  t.end()
})

test('survives requests that begin out of turn', (t) => {
  const rate = new TraceRate(1, 10)
  expected(rate, [1_000])
  const shares = [1_000, 999, 1_001, 998].map((at) => rate.of(at))
  t.same(shares, [0.01, 0.01, 0.01, 0.01])
  t.end()
})

test('is the share of what begins meanwhile, whatever it throws', (t) => {
  const rate = new TraceRate(0.5, 100)
  t.equal(
    rate.during(0.25, () => rate.now),
    0.25
  )
  t.throws(() => rate.during(0.25, () => JSON.parse('{')))
  t.equal(rate.now, 0.5)
  t.end()
})
