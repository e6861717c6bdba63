import { test } from 'tap'
import { judge, marginalUs } from '../growth.ts'
import { withGrowth } from '../report.ts'

test('a cost is linear while one more costs no more than before', async (t) => {
  t.match(judge('linear', [0, 10, 100], [30, 70, 430]), { isFine: true, times: 1 })
  t.match(judge('linear', [0, 10, 100], [30, 31, 130]), { isFine: false, times: 11 })
})

test('a cost is flat while its dearest point is near the cheapest', async (t) => {
  t.match(judge('flat', [1, 10, 100], [30, 31, 33]), { isFine: true, times: 1.1 })
  t.match(judge('flat', [1, 10, 100], [30, 40, 60]), { isFine: false, times: 2 })
})

test('the cost of one more is the slope from the first point to the last', async (t) => {
  t.equal(marginalUs([0, 10, 100], [30, 70, 430]), 4)
})

test('a section of growth takes the place of the one before', async (t) => {
  const page = '# Results\n\n## Memory\n\nsome\n'
  const twice = withGrowth(withGrowth(page, []), [])
  t.equal(twice, withGrowth(page, []))
  t.match(twice, /^# Results\n\n## Memory\n\nsome\n\n## As the work grows\n\n/)
})
