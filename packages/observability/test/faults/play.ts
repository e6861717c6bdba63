import { setTimeout as wait } from 'node:timers/promises'
import { accountsOf } from './accounts.ts'
import type { Cell } from './cell.ts'
import type { Ending } from './process.ts'
import { settled } from './scrape.ts'
import { type Stage, setStage } from './stage.ts'
import { type answersOf, startTraffic, type Traffic } from './traffic.ts'

/** What became of a cell. */
export interface Played {
  cell: Cell
  seen: string
  problems: string[]
}

const BEFORE_MS = 3_000
const FAULT_MS = 5_000
const AFTER_MS = 3_000
/** The longest pause before a retry is 5 s, and a call may hang for 2 s; the rest is for a busy machine. */
const RECOVERY_MS = 30_000
/** Requests have 3 s, hooks 10 s, and telemetry 5 s; the rest is for a busy machine. */
const CLOSE_MS = 30_000
const POLL_MS = 100

export async function play(cell: Cell, answers: Awaited<ReturnType<typeof answersOf>>): Promise<Played> {
  const setting = typeof cell.setting === 'function' ? await cell.setting() : (cell.setting ?? {})
  const stage = await setStage(setting)
  try {
    const played = await playOn(stage, cell, answers)
    return cell.isNoticedAs ? noticed(played, cell.isNoticedAs) : played
  } finally {
    await stage.close()
    setting.release?.()
  }
}

function noticed({ cell, problems }: Played, words: RegExp): Played {
  const found = problems.filter((problem) => words.test(problem))
  return { cell, seen: found.join('; '), problems: found.length > 0 ? [] : ['not noticed', ...problems] }
}

async function playOn(stage: Stage, cell: Cell, answers: Awaited<ReturnType<typeof answersOf>>): Promise<Played> {
  const traffic = startTraffic(stage.service.origin, answers)
  const seen: string[] = []
  const problems = await endure(stage, cell, traffic, seen)
  const startedAt = performance.now()
  if (cell.endsWith === undefined) stage.service.child.kill('SIGTERM')
  const ending = await Promise.race([stage.service.ended, wait(CLOSE_MS, undefined, { ref: false })])
  seen.push(`closed in ${seconds(performance.now() - startedAt)}`)
  await traffic.stop()
  if (!ending)
    return { cell, seen: seen.join('; '), problems: [...problems, `the process has not ended after ${CLOSE_MS} ms`] }
  problems.push(...endProblems(stage, cell, traffic, ending))
  seen.unshift(`${traffic.answered} of ${traffic.sent} answers`)
  if (!ending.report)
    return { cell, seen: seen.join('; '), problems: [...problems, 'the process has said nothing when it ended'] }
  const accounts = accountsOf(stage, ending.report, cell)
  seen.splice(1, 0, ...accounts.seen)
  return { cell, seen: seen.join('; '), problems: [...problems, ...accounts.problems] }
}

/** The fault, and what comes after it until the service has to end. What is wrong. */
async function endure(stage: Stage, cell: Cell, traffic: Traffic, seen: string[]): Promise<string[]> {
  const problems: string[] = []
  let hasEnded = false
  void stage.service.ended.then(() => {
    hasEnded = true
  })
  await wait(BEFORE_MS)
  const endFault = await cell.begin(stage, traffic)
  await Promise.race([wait(FAULT_MS), stage.service.ended])
  // What ends the process does so here.
  if ((await endFault()) === 0) problems.push('the fault has not struck')
  if (cell.endsWith !== undefined) return problems
  const mendedAt = performance.now()
  if (!cell.isLasting && !hasEnded) {
    const missing = await recovered(stage)
    if (missing.length > 0) problems.push(`nothing new after ${RECOVERY_MS} ms: ${missing.join(', ')}`)
    seen.push(`recovered in ${seconds(performance.now() - mendedAt)}`)
    await wait(Math.max(0, AFTER_MS - (performance.now() - mendedAt)))
  }
  await traffic.stop()
  return [...problems, ...(hasEnded ? ['the process has ended'] : await settled(stage, traffic, cell))]
}

/** What is wrong beside the accounts. */
function endProblems(stage: Stage, cell: Cell, traffic: Traffic, { code, signal, report }: Ending): string[] {
  const { said } = stage.service
  const { uncaught = [], warnings = [] } = report ?? {}
  const wanted = cell.endsWith ?? 0
  return [
    ...(code === wanted ? [] : [`exit code ${code ?? signal}: ${said.join(' ').slice(0, 500)}`]),
    ...Array.from(traffic.differences, ([what, count]) => `${count} answers differ: ${what}`),
    ...(cell.endsWith === undefined ? uncaught.map((error) => `uncaught: ${error}`) : []),
    ...warnings.map((warning) => `a warning: ${warning}`),
    ...said.map((line) => `on standard error: ${line}`),
    ...(cell.problems?.(stage, traffic) ?? [])
  ]
}

/** Waits until something new has come of each signal. What has not come in time. */
async function recovered(stage: Stage): Promise<string[]> {
  const counts = (): [string, number][] => [
    ['spans', stage.collector.spans.length],
    ['records', stage.collector.logs.length],
    ['points', stage.collector.points.length],
    ['lines on standard output', stage.service.lines.length],
    ['lines in the file', stage.fileLines().length + stage.newFileLines().length],
    ['events', stage.ingest.accepted.length]
  ]
  const before = new Map(counts())
  const until = performance.now() + RECOVERY_MS
  for (;;) {
    const missing = counts().filter(([name, count]) => count === before.get(name))
    if (missing.length === 0 || performance.now() > until) return missing.map(([name]) => name)
    await wait(POLL_MS)
  }
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`
}
