import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { measureGrowth } from './growth.ts'
import { GROWTH, growthChart, growthSection, overgrown } from './growth-report.ts'
import { ratios, regressions } from './guard.ts'
import { canCount, instructionsOf } from './instructions.ts'
import { atFullLoad, atPace } from './memory.ts'
import { hasPython, IN_PYTHON, NO_PYTHON, PEERS, PEERS_PLAN } from './peers.ts'
import { startPostgres } from './postgres.ts'
import { canPin, startSink, stayBesideLoad } from './process.ts'
import { chart, comparison, markdown, PACED_MEMORY, pacedMemorySection, type Results, withSection } from './report.ts'
import { type Round, takeStarts } from './sample.ts'
import { startUps } from './startup.ts'
import { type Ends, groups, isVariant, pairs, type VariantName, variants } from './variants.ts'
import { hasWrk, wrkRounds } from './wrk.ts'

const STORED: VariantName[] = ['bare', 'ours', 'ours-10', 'hand-wired']
/** Whose instructions a full run counts. */
const COUNTED: VariantName[] = ['bare', 'ours', 'ours-10']
const NOT_COUNTED = 'instructions: no valgrind (apt-get install valgrind) on this machine'
const NO_WRK = 'by wrk: no wrk (apt-get install wrk) on this machine'
const GUARDED: VariantName[] = ['bare', 'ours', 'ours-10']
const ROUNDS_A_START = 5
const START_UPS = 10
const QUICK_TRIES = 4
// Many short turns, because a machine is quiet for some of them.
const QUICK = { rounds: 60, roundsAStart: 20, requests: 2_048, warmUp: 30_000 }
// Of chosen variants, because two processes of one variant differ by more than most of what is compared.
const QUICK_ROUNDS_A_START = 5
const PAIRED_STARTS = 12

const { values } = parseArgs({
  options: {
    /** Compares with ratios.json and fails on a regression. */
    quick: { type: 'boolean', default: false },
    /** With --quick: writes ratios.json instead. */
    keep: { type: 'boolean', default: false },
    /** Measures the cost as the work grows, and nothing else. */
    growth: { type: 'boolean', default: false },
    /** Measures RSS at a fixed rate, and nothing else: ten minutes. */
    memory: { type: 'boolean', default: false },
    /** Counts instructions too, by valgrind: minutes a variant. */
    instructions: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '10' },
    /** Variants, separated by commas. */
    only: { type: 'string' },
    /** With --quick and --only: how often the servers are started. */
    starts: { type: 'string', default: '12' }
  }
})

function tell(progress: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r${progress.padEnd(70)}`)
}

function wholeNumber(option: 'rounds' | 'starts'): number {
  const value = Number(values[option])
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${option} must be a whole number from 1`)
  return value
}

function beside(file: string): URL {
  return new URL(file, import.meta.url)
}

/** @param together which variants are measured beside each other */
async function full(together: readonly (readonly VariantName[])[], rounds: number, ends: Ends): Promise<void> {
  const names = [...new Set(together.flat())]
  const postgres = await startPostgres()
  try {
    const missing = [
      ...(postgres
        ? []
        : ['the route with a query: no PostgreSQL (initdb, postgres) on this machine and no TEST_DATABASE_URL']),
      ...(canPin ? [] : ['apart from the load: no second core, or no taskset, so the server shared its core'])
    ]
    const results: Results = {
      names,
      rounds,
      starts: [],
      paired: [],
      startUps: [],
      memory: [],
      pacedMemory: [],
      growths: [],
      peers: [],
      wrk: [],
      instructions: new Map(),
      missing
    }
    const plan = { ends, isPaced: true, stored: STORED, ...(postgres && { databaseUrl: postgres.url }) }
    for (let taken = 0; taken < rounds; taken += ROUNDS_A_START) {
      const count = Math.min(ROUNDS_A_START, rounds - taken)
      for (const names of together) {
        const begun = (progress: string): void => tell(`${taken} of ${rounds}: ${progress}`)
        results.starts.push(...(await takeStarts({ ...plan, names, rounds: count, roundsAStart: count }, begun)))
        write(results)
      }
    }
    // Each pair by itself: turns that are close to each other have the same neighbours.
    for (const pair of values.only ? [] : pairs) {
      results.paired.push({ ...pair, starts: await startsOf([pair.base, pair.name], ends, PAIRED_STARTS) })
      write(results)
    }
    results.startUps = await startUps(ends, START_UPS)
    write(results)
    for await (const memory of atFullLoad(ends, tell, values.only ? names : undefined)) {
      results.memory.push(memory)
      write(results)
    }
    if (!hasPython()) missing.push(NO_PYTHON)
    else if (!values.only) {
      const plan = { names: PEERS.flatMap(({ bare, observed }) => [bare, observed]), ends, isPaced: false, stored: [] }
      results.peers = (await takeStarts({ ...plan, ...PEERS_PLAN }, tell)).flat()
    }
    write(results)
    const opinion = STORED.filter((name) => names.includes(name))
    if (!hasWrk()) missing.push(NO_WRK)
    else results.wrk = await wrkRounds(opinion, ends, tell)
    write(results)
    if (values.instructions) {
      if (!canCount()) missing.push(NOT_COUNTED)
      else results.instructions = await countInstructions(values.only ? names : COUNTED, ends)
      write(results)
    }
    const { growths, missing: points } = await measureGrowth(ends, tell)
    results.growths = growths
    missing.push(...points)
    write(results)
    if (!values.only) {
      results.pacedMemory = await atPace(ends, tell)
      write(results)
    }
    console.log(markdown(results))
  } finally {
    await postgres?.stop()
  }
}

// After each part, because all of them take a while.
function write(results: Results): void {
  writeFileSync(beside('results.md'), markdown(results))
  writeFileSync(beside('results.svg'), chart(results))
  if (results.growths.length > 0) writeFileSync(beside('growth.svg'), growthChart(results.growths))
}

async function countInstructions(names: VariantName[], ends: Ends): Promise<Map<VariantName, number>> {
  const counts = new Map<VariantName, number>()
  for (const name of names) {
    tell(`${name}: counting instructions`)
    counts.set(name, await instructionsOf(name, ends))
  }
  return counts
}

/** Resolves with what grows as it should not. */
async function grow(ends: Ends): Promise<string[]> {
  const { growths, missing } = await measureGrowth(ends, tell)
  replaceSection(GROWTH, growthSection(growths))
  writeFileSync(beside('growth.svg'), growthChart(growths))
  console.log([growthSection(growths), ...missing].join('\n\n'))
  return overgrown(growths)
}

async function measureMemory(ends: Ends): Promise<void> {
  const section = pacedMemorySection(await atPace(ends, tell))
  replaceSection(PACED_MEMORY, section)
  console.log(section)
}

function replaceSection(title: string, text: string): void {
  const file = beside('results.md')
  writeFileSync(file, withSection(readFileSync(file, 'utf8'), title, text))
}

function startsOf(names: VariantName[], ends: Ends, count: number): Promise<Round[][]> {
  const rounds = { rounds: count * QUICK_ROUNDS_A_START, roundsAStart: QUICK_ROUNDS_A_START }
  return takeStarts({ names, ends, ...QUICK, ...rounds, isPaced: false, stored: [] }, tell)
}

/** Prints what chosen variants cost, each beside another. */
async function compare(ends: Ends, names: VariantName[], count: number): Promise<void> {
  console.log(comparison(await startsOf(names, ends, count), names))
  if (!values.instructions) return
  if (!canCount()) return console.log(`Not measured: ${NOT_COUNTED}`)
  for (const [name, count] of await countInstructions(names, ends))
    console.log(`${name}: ${Math.round(count)} instructions`)
}

/** Resolves with what has become too dear: in each of several measurements, because what is dear for good is so in all. */
async function guard(ends: Ends): Promise<string[]> {
  const plan = { names: GUARDED, ends, ...QUICK, isPaced: false, stored: [] }
  const file = beside('ratios.json')
  if (values.keep) {
    writeFileSync(file, `${JSON.stringify(ratios((await takeStarts(plan, tell)).flat()), undefined, 2)}\n`)
    return []
  }
  const kept = JSON.parse(readFileSync(file, 'utf8'))
  for (let tries = 1; ; tries++) {
    const measured = ratios((await takeStarts(plan, tell)).flat())
    console.log(`times bare: ${JSON.stringify(measured)}, kept: ${JSON.stringify(kept)}`)
    const found = regressions(measured, kept)
    if (found.length === 0 || tries === QUICK_TRIES) return found
    console.log(`${found.join('\n')}\nMeasuring again, to be sure.`)
  }
}

function fail(found: string[]): void {
  for (const sentence of found) console.error(sentence)
  if (found.length > 0) process.exitCode = 1
}

const names = values.only?.split(',') ?? []
const rounds = wholeNumber('rounds')
const starts = wholeNumber('starts')
if (names.some((name) => IN_PYTHON.some((variant) => variant === name)) && !hasPython()) throw new Error(NO_PYTHON)
if (!names.every(isVariant)) throw new Error(`the variants are ${Object.keys(variants).join(', ')}`)

stayBesideLoad()
const sink = await startSink()
try {
  if (values.quick && values.only) {
    await compare(sink.ends, names, starts)
  } else if (values.quick) {
    fail(await guard(sink.ends))
  } else if (values.growth) {
    fail(await grow(sink.ends))
  } else if (values.memory) {
    await measureMemory(sink.ends)
  } else {
    await full(values.only ? [names] : groups, rounds, sink.ends)
  }
} finally {
  await sink.stop()
}
