import { relative } from 'node:path'
import type { TestEvent } from 'node:test/reporters'

/** What became of one test. */
export interface Result {
  file: string
  test: string
  status: 'pass' | 'fail' | 'skip'
  error?: string
}

/** Writes one line of JSON for each test. Tests of one name in one file are numbered. */
export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const counts = new Map<string, number>()
  for await (const { type, data } of events) {
    if ((type !== 'test:pass' && type !== 'test:fail') || data.details.type === 'suite') continue
    const file = relative(process.cwd(), data.file ?? '')
    const key = `${file} ${data.name}`
    const count = (counts.get(key) ?? 0) + 1
    counts.set(key, count)
    const skipped = data.skip !== undefined || data.todo !== undefined
    const result: Result = {
      file,
      test: count === 1 ? data.name : `${data.name} #${count}`,
      status: skipped ? 'skip' : type === 'test:pass' ? 'pass' : 'fail',
      error: type === 'test:fail' ? messageOf(data.details.error) : undefined
    }
    yield `${JSON.stringify(result)}\n`
  }
}

/** The test runner wraps what the test has thrown. */
function messageOf(error: Error): string {
  const { cause } = error
  return String(cause instanceof Error ? cause.message : (cause ?? error.message)).slice(0, 1_000)
}
