import type { Cell } from '../cell.ts'
import type { Stage } from '../stage.ts'
import { responseTo } from '../traffic.ts'

const LATE = 'what comes while the process ends'

/** The service says of itself that it has ended well. */
function lastLine({ service }: Stage): string[] {
  const last = service.lines.at(-1) ?? ''
  return last.includes('"msg":"shutdown finished"') ? [] : [`the last line is ${last.slice(0, 200)}`]
}

function fatalLines({ service }: Stage): string[] {
  const { length } = service.lines.filter((line) => line.includes('"level":"fatal"'))
  return length === 1 ? [] : [`${length} lines at level fatal`]
}

const signals: Cell[] = [
  {
    name: 'SIGTERM in load',
    expected: 'exit code 0, nothing lost, a last line',
    endsWith: 0,
    hasOtherRequests: true,
    problems: lastLine,
    begin({ service }, traffic) {
      traffic.tolerance = 'end'
      return () => Number(service.child.kill('SIGTERM'))
    }
  },
  {
    name: 'SIGTERM in load, with a request that hangs',
    expected: 'exit code 0 after 3 s, nothing lost, a last line',
    endsWith: 0,
    hasOtherRequests: true,
    problems: lastLine,
    begin({ service }, traffic) {
      traffic.tolerance = 'end'
      void responseTo(service.origin, { path: '/hang' }).catch(() => undefined)
      return () => Number(service.child.kill('SIGTERM'))
    }
  },
  {
    name: 'SIGTERM twice, with a request that hangs',
    expected: 'exit code 1 at once',
    endsWith: 1,
    mayLose: {
      points: 'the second signal ends the process at once',
      spans: 'the second signal ends the process at once',
      records: 'the second signal ends the process at once',
      events: 'the second signal ends the process at once',
      lines: 'the copies over OTLP'
    },
    begin({ service }, traffic) {
      traffic.tolerance = 'end'
      void responseTo(service.origin, { path: '/hang' }).catch(() => undefined)
      return async () => {
        service.child.kill('SIGTERM')
        while (!service.lines.some((line) => line.includes('"msg":"shutting down"'))) await service.read()
        return Number(service.child.kill('SIGTERM'))
      }
    }
  }
]

const errors: Cell[] = (['uncaught', 'unhandled'] as const).map((name) => ({
  name: name === 'uncaught' ? 'an exception that nobody catches' : 'a rejection that nobody waits for',
  expected: 'exit code 1, one fatal line, nothing lost',
  endsWith: 1,
  problems: fatalLines,
  // Points are pushed again while the other signals are still on their way.
  mayLose: { spans: LATE, records: LATE, points: LATE, lines: LATE, events: LATE },
  begin(stage, traffic) {
    traffic.tolerance = 'end'
    return async () => {
      await stage.cause(name)
      return 1
    }
  }
}))

const resources: Cell[] = [
  {
    name: 'the event loop is blocked for 5 s',
    expected: 'late answers, nothing lost',
    begin(stage) {
      const blocked = stage.cause('block')
      return async () => Number((await blocked) === 200)
    }
  },
  {
    name: '85 % of the heap’s limit are taken for 5 s',
    expected: 'nothing lost',
    // V8 ends a process whose last four collections near the limit took most of the time, by the clock on the wall: on a slow
    // machine it ends a plain app too. At the limit itself it still does.
    setting: {
      args: ['--max-old-space-size=160', '--max-semi-space-size=2', '--no-detect-ineffective-gcs-near-heap-limit']
    },
    async begin(stage) {
      const strikes = Number((await stage.cause('hoard')) === 200)
      return async () => {
        await stage.cause('release')
        return strikes
      }
    }
  }
]

export const processCells: Cell[] = [...signals, ...errors, ...resources]
