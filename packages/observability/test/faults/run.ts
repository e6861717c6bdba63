// Plays faults on a service under load, several at once, and prints a table of what was expected and seen: all of them, or those
// whose name contains the words, as in `node run.ts Sentry`. In CI a fault that cannot be played for want of a part has failed.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import Fastify from 'fastify'
import type { Cell } from './cell.ts'
import { CELLS } from './cells.ts'
import { type Played, play } from './play.ts'
import { declareRoutes } from './routes.ts'
import { answersOf } from './traffic.ts'

// Each waits most of its time.
const AT_ONCE = 6
/** Held up for so long, half of what a call has, this process with all receivers decides what becomes of a fault. */
const HELD_UP_MS = 1_000
const MOST_PLAYS = 3

const wanted = process.argv.slice(2).join(' ')
const named = CELLS.filter(({ name }) => name.includes(wanted))
const cells = named.filter(({ missing }) => !missing || process.env.CI)
const startedAt = performance.now()
const plain = Fastify()
declareRoutes(plain, { work: (fn) => fn(), onThrow: () => undefined })
const answers = await answersOf(await plain.listen({ port: 0, host: '127.0.0.1' }))
await plain.close()

const played: Played[] = []
const left = cells.entries()
async function take(): Promise<void> {
  for (const [index, cell] of left) {
    played[index] = cell.missing ? failureOf(cell, cell.missing) : await playPatiently(cell)
    const { seen, problems } = played[index]
    console.error(`${problems.length === 0 ? 'ok' : 'not ok'} - ${cell.name}`)
    if (problems.length > 0) for (const what of [...problems, `seen: ${seen}`]) console.error(`  # ${what}`)
  }
}

function failureOf(cell: Cell, error: unknown): Played {
  return { cell, seen: '', problems: [String(error)] }
}

/** Plays it again, and says so, where something is wrong while the machine was too busy for this process. */
async function playPatiently(cell: Cell): Promise<Played> {
  for (let plays = 1; ; plays++) {
    const delay = monitorEventLoopDelay()
    delay.enable()
    const { seen, problems } = await play(cell, answers).catch((error) => failureOf(cell, error))
    delay.disable()
    const heldUpMs = Math.round(delay.max / 1e6)
    if (problems.length === 0 || plays === MOST_PLAYS || heldUpMs < HELD_UP_MS)
      return { cell, seen: plays === 1 ? seen : `${seen}; played ${plays} times`, problems }
    console.error(`again - ${cell.name}, after ${heldUpMs} ms without a turn: ${problems.join('; ')}`)
  }
}

await Promise.all(Array.from({ length: AT_ONCE }, take))

console.log('| fault | expected | seen |\n| --- | --- | --- |')
for (const { cell, seen, problems } of played) {
  const losses = lossesOf(cell)
  console.log(
    `| ${cell.name} | ${[cell.expected, ...losses].join('; ')} | ${[...problems.map((one) => `**${one}**`), seen].join('; ')} |`
  )
}
for (const { name, missing } of named) if (missing) console.log(`| ${name} | | not played: ${missing} |`)
const failed = played.filter(({ problems }) => problems.length > 0).length
console.log(`\n${cells.length} faults in ${Math.round((performance.now() - startedAt) / 1_000)} s`)
console.log(`# passed ${played.length - failed}\n# failed ${failed}`)
process.exitCode = failed === 0 && played.length > 0 ? 0 : 1

/** What is lost and why, or may be; signals that share a reason together. */
function lossesOf({ loses = {}, mayLose = {} }: Cell): string[] {
  function wordsOf(losses: NonNullable<Cell['loses']>, how: string): string[] {
    const signals = Object.groupBy(Object.entries(losses), ([, why]) => why)
    return Object.entries(signals).map(
      ([why, all = []]) => `${all.map(([signal]) => signal).join(', ')} ${how}: ${why}`
    )
  }
  return [...wordsOf(loses, 'are lost'), ...wordsOf(mayLose, 'may be lost')]
}
