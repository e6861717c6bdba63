import { test } from 'tap'
import { judge, marginalUs } from '../growth.ts'
import { withSection } from '../report.ts'

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

test('a section takes the place of the one before, or the last', async (t) => {
  const page = '# Results\n\n## Memory\n\nsome\n\n## Memory at\n\nmore\n'
  t.equal(withSection(page, '## Memory', 'other'), '# Results\n\n## Memory\n\nother\n\n## Memory at\n\nmore\n')
  t.equal(withSection(page, '## Growth', 'much'), `${page}\n## Growth\n\nmuch\n`)
})
