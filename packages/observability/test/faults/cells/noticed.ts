import type { Cell } from '../cell.ts'
import type { Stage } from '../stage.ts'

/** Something that has arrived is taken away: as if it had been lost in silence. */
function losing(what: string, take: (stage: Stage) => unknown, isNoticedAs: RegExp): Cell {
  return {
    name: `noticed: ${what} that was lost in silence`,
    expected: 'the accounts do not balance',
    isNoticedAs,
    begin: (stage) => () => Number(take(stage) !== undefined)
  }
}

/** Not faults of others but of the suite, as they would look: proof that the other cells can fail. */
export const noticedCells: Cell[] = [
  losing(
    'a span',
    ({ collector }) => collector.requests.traces.find((spans) => spans.length > 0)?.pop(),
    /^spans: .*were received/
  ),
  losing(
    'a record',
    ({ collector }) => collector.requests.logs.find((logs) => logs.length > 0)?.pop(),
    /^records: .*were received/
  ),
  losing(
    'a point',
    ({ collector }) => collector.requests.metrics.find((all) => all.length > 0)?.pop(),
    /^points: .*were received/
  ),
  losing('a line', ({ service }) => service.lines.pop(), /^lines: .* produced/),
  losing('an event', ({ ingest }) => ingest.accepted.pop(), /^events: .*were received/),
  {
    name: 'noticed: an answer with a header more',
    expected: 'it differs from the plain app’s',
    isNoticedAs: /answers differ: GET \/text/,
    async begin(stage) {
      const status = await stage.cause('answer')
      return () => Number(status === 200)
    }
  },
  {
    name: 'noticed: a process that ends',
    expected: 'the process has ended',
    isNoticedAs: /the process has ended/,
    begin({ service }) {
      const isKilled = service.child.kill('SIGKILL')
      return () => Number(isKilled)
    }
  },
  {
    name: 'noticed: half a line',
    expected: 'a line is no JSON',
    isNoticedAs: /^no JSON/,
    begin:
      ({ service }) =>
      () =>
        service.lines.push(String(service.lines.pop()).slice(0, -10))
  },
  {
    name: 'noticed: a fault that does not strike',
    expected: 'the fault has not struck',
    isNoticedAs: /has not struck/,
    begin: () => () => 0
  }
]
