// Takes one guard of `.ci/mutations/places.ts` after the other out of a copy of the tree, and runs the tests that must fail without it.
// Run from the root; all of them, or those whose file or purpose has one of the texts in it: `node .ci/mutations.ts sentry`.
import { access, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Copy, copyTree, testFile } from './mutations/copy.ts'
import { type Guard, PLACES } from './mutations/places.ts'

interface Place extends Guard {
  file: string
}

interface Result {
  place: Place
  /** The test that has killed it, `undefined` if none has. */
  by: string | undefined
}

const AT_ONCE = 2
const LEAST_SCORE = 0.9

async function checkPlace({ file, find }: Place): Promise<void> {
  const text = await readFile(join('packages', file), 'utf8')
  const count = text.split(find).length - 1
  if (count !== 1) throw new Error(`occurs ${count} times in packages/${file}: ${find}`)
}

/** Gives all jobs to the copies, one at a time each. */
async function share<Job>(copies: Copy[], jobs: Job[], work: (copy: Copy, job: Job) => Promise<void>): Promise<void> {
  const queue = jobs.values()
  await Promise.all(
    copies.map(async (copy) => {
      for (const job of queue) await work(copy, job)
    })
  )
}

async function killerOf(copy: Copy, place: Place): Promise<string | undefined> {
  for (const test of place.tests) {
    const file = testFile(place.file, test)
    const verdict = await copy.without(join('packages', place.file), place, () => copy.test(file))
    if (verdict.passed) continue
    // That the text is no program any more proves nothing, and neither does what fails anyway.
    if (/^\w*(?:Syntax|Reference)Error\b/m.test(verdict.output))
      faults.push(`${place.file}, ${place.guard}: ${verdict.output}`)
    else if (await passes(copy, file)) return `${test}: ${verdict.by}`
  }
  return undefined
}

/** Whether the file passes with all guards, in one of two runs: a busy machine may fail one. */
function passes(copy: Copy, file: string): Promise<boolean> {
  const known = proven.get(file) ?? prove(copy, file)
  proven.set(file, known)
  return known
}

async function prove(copy: Copy, file: string): Promise<boolean> {
  const first = await copy.test(file)
  if (first.passed || (await copy.test(file)).passed) return true
  faults.push(`${file} fails as it is: ${first.by}\n${first.output.slice(-2_000)}`)
  return false
}

function print({ place: { file, guard, equivalent }, by }: Result): void {
  const verdict = by ?? (equivalent === undefined ? 'SURVIVED' : `survived: ${equivalent}`)
  console.log(`${file.padEnd(44)}  ${guard}\n${''.padEnd(44)}  → ${verdict}`)
}

const [...texts] = process.argv.slice(2)
const started = performance.now()
const places = Object.entries(PLACES)
  .flatMap(([file, guards]) => guards.map((guard): Place => ({ file, ...guard })))
  .filter(({ file, guard }) => texts.length === 0 || texts.some((text) => `${file} ${guard}`.includes(text)))
const faults: string[] = []
const proven = new Map<string, Promise<boolean>>()
for (const place of places) await checkPlace(place).catch((error) => faults.push(String(error)))

const files = new Set(places.flatMap(({ file, tests }) => tests.map((test) => testFile(file, test))))
for (const file of files) await access(file).catch((error) => faults.push(String(error)))
const copies = faults.length > 0 ? [] : await Promise.all(Array.from({ length: AT_ONCE }, copyTree))
const results: Result[] = []
await share(copies, places, async (copy, place) => {
  const result = { place, by: await killerOf(copy, place) }
  results.push(result)
  print(result)
})
await Promise.all(copies.map((copy) => copy.remove()))

const killed = results.filter(({ by }) => by !== undefined)
const equivalent = results.filter(({ place, by }) => by === undefined && place.equivalent !== undefined)
const score = killed.length / (results.length - equivalent.length)
for (const fault of faults) console.log(`not ok - ${fault}`)
console.log(
  `# score ${(100 * score).toFixed(1)} %: ${killed.length} of ${results.length} killed, ${equivalent.length} equivalent`
)
console.log(`# ${files.size} test files, ${Math.round((performance.now() - started) / 1_000)} s`)
console.log(`# passed ${killed.length + equivalent.length}`)
console.log(
  `# failed ${faults.length + (score >= LEAST_SCORE ? 0 : results.length - killed.length - equivalent.length)}`
)
process.exitCode = faults.length === 0 && score >= LEAST_SCORE ? 0 : 1
