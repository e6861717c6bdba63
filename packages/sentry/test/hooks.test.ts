import { test } from 'tap'
import { guardedHooks } from '../src/hooks.ts'

const item = { name: 'an item' }
/** What is asked, and what is the answer where the hook has none. */
const HOOKS: Record<string, [asked: unknown[], otherwise: unknown]> = {
  beforeBreadcrumb: [[item], null],
  beforeSendLog: [[item], null],
  beforeSendMetric: [[item], null],
  beforeSendSpan: [[item], item],
  tracesSampler: [[item], 0],
  onFatalError: [[item], undefined],
  initialScope: [[item], item],
  integrations: [[[item]], [item]],
  stackParser: [['Error'], []]
}
const WRONG: Record<string, () => unknown> = {
  throws: () => {
    throw new Error('no')
  },
  rejects: async () => Promise.reject(new Error('no')),
  'returns a symbol': () => Symbol('no')
}
// Nobody looks at what these return.
const UNREAD = ['onFatalError', 'initialScope']

for (const [name, [asked, otherwise]] of Object.entries(HOOKS)) {
  for (const [problem, wrong] of Object.entries(WRONG)) {
    if (problem === 'returns a symbol' && UNREAD.includes(name)) continue
    test(`reports sdk.${name} that ${problem}, and goes on with what is safe`, async (t) => {
      const reported: unknown[] = []
      const hook: unknown = Reflect.get(
        guardedHooks({ [name]: wrong }, (error) => reported.push(error)),
        name
      )
      t.same(typeof hook === 'function' && Reflect.apply(hook, undefined, asked), otherwise)
      t.equal(reported.length, 1)
    })
  }
  test(`asks sdk.${name} otherwise`, async (t) => {
    const answer = name === 'tracesSampler' ? 0.5 : asked[0] === 'Error' ? [] : asked[0]
    const hook: unknown = Reflect.get(
      guardedHooks({ [name]: () => answer }, () => t.fail()),
      name
    )
    t.equal(typeof hook === 'function' && Reflect.apply(hook, undefined, asked), answer)
  })
}

test('adds no hook that is not there', async (t) =>
  t.same(
    guardedHooks({ integrations: [] }, () => t.fail()),
    {}
  ))
