import { cpus } from 'node:os'
import type { Growth } from './growth.ts'
import { GROWTH, growthSection } from './growth-report.ts'
import { FULL_LOAD_REQUESTS, type Memory, PACED_MINUTES } from './memory.ts'
import { PEERS } from './peers.ts'
import { PACE_PER_SECOND, type Round, type Sample } from './sample.ts'
import type { StartUp } from './startup.ts'
import { intervalOfStarts, lowestTenth, over, ratio, total, typical } from './statistics.ts'
import { fixed, table } from './table.ts'
import { PAIRED, type Pair, pairs, type VariantName, variants } from './variants.ts'

export interface Results {
  /** How many of each variant were asked for. */
  rounds: number
  /** The rounds of each start of the servers. Those of one start have some of the variants only. */
  starts: Round[][]
  names: VariantName[]
  /** Of variants that cost little more than another, and of those others, in more starts. */
  paired: (Pair & { starts: Round[][] })[]
  startUps: StartUp[]
  /** After many requests at full load. */
  memory: Memory[]
  /** After a while at a fixed rate. */
  pacedMemory: Memory[]
  growths: Growth[]
  /** Rounds beside FastAPI. */
  peers: Round[]
  /** Rounds of load by wrk. */
  wrk: Round[]
  /** Instructions a request, of the variants of which they are counted. */
  instructions: Map<VariantName, number>
  /** What could not be measured here, and why. */
  missing: string[]
}

const KILOBYTE = 1024
const MEGABYTE = 1024 ** 2
export const PACED_MEMORY = `## Memory at ${PACE_PER_SECOND} requests/s`

export const fullCost = (sample: Sample): number | undefined => total(sample.full)
const pacedCost = (sample: Sample): number | undefined => total(sample.paced)
const storedCost = (sample: Sample): number | undefined => total(sample.stored)
const pacedP99 = (sample: Sample): number | undefined => sample.paced?.p99Ms

function allocatedKilobytes(rounds: Round[], name: VariantName): number | undefined {
  return typical(rounds, name, ({ allocatedBytes }) => allocatedBytes && allocatedBytes / KILOBYTE)
}

function costTable({ starts, names, instructions }: Results): string {
  const rounds = starts.flat()
  const head = [
    'variant',
    'ratio',
    'user µs',
    'system µs',
    'requests/s',
    `ratio at ${PACE_PER_SECOND}/s`,
    'µs',
    'p50 ms',
    'p99 ms',
    'over bare',
    'KB allocated',
    'instructions',
    'RSS MB',
    'query ratio',
    'query µs'
  ]
  const rows = names.map((name) => {
    const of = (figure: (sample: Sample) => number | undefined): number | undefined => typical(rounds, name, figure)
    return [
      name,
      fixed(ratio(rounds, name, fullCost), 2),
      fixed(
        of(({ full }) => full.userUs),
        1
      ),
      fixed(
        of(({ full }) => full.systemUs),
        1
      ),
      fixed(of(({ full }) => full.perSecond)),
      fixed(ratio(rounds, name, pacedCost), 2),
      fixed(of(pacedCost), 1),
      fixed(
        of(({ paced }) => paced?.p50Ms),
        2
      ),
      fixed(of(pacedP99), 2),
      fixed(over(rounds, name, pacedP99), 2),
      fixed(allocatedKilobytes(rounds, name), 1),
      fixed(instructions.get(name)),
      fixed(of(({ rssBytes }) => rssBytes / MEGABYTE)),
      fixed(ratio(rounds, name, storedCost), 2),
      fixed(of(storedCost), 1)
    ]
  })
  return table(head, rows)
}

function peerTable(rounds: Round[]): string {
  const rows = PEERS.flatMap(({ bare, observed }) =>
    [bare, observed].map((name) => [
      name,
      variants[name].what,
      fixed(typical(rounds, name, fullCost), 1),
      fixed(ratio(rounds, name, fullCost), 2),
      fixed(ratio(rounds, name, fullCost, bare), 2),
      fixed(over(rounds, name, fullCost, bare), 1)
    ])
  )
  return table(
    ['variant', 'what it is', 'CPU µs a request', 'times bare Fastify', 'times its framework', 'µs over it'],
    rows
  )
}

/** The same at full load by another generator. */
function wrkTable(rounds: Round[], names: VariantName[]): string {
  const measured = names.filter((name) => rounds.some((round) => round[name]))
  const rows = measured.map((name) => [
    name,
    fixed(ratio(rounds, name, fullCost), 2),
    fixed(
      typical(rounds, name, ({ full }) => full.userUs),
      1
    ),
    fixed(
      typical(rounds, name, ({ full }) => full.systemUs),
      1
    ),
    fixed(typical(rounds, name, ({ full }) => full.perSecond))
  ])
  return table(['variant', 'ratio', 'user µs', 'system µs', 'requests/s'], rows)
}

/** How many times less overhead than the parts wired by hand. */
function lessThanByHand(
  rounds: Round[],
  name: VariantName,
  figure: (sample: Sample) => number | undefined
): number | undefined {
  const ours = ratio(rounds, name, figure)
  const byHand = ratio(rounds, 'hand-wired', figure)
  return ours === undefined || byHand === undefined ? undefined : (byHand - 1) / (ours - 1)
}

/** What most readers want to know, of each variant that is the whole suite. */
function summary({ starts, names, startUps, memory }: Results): string {
  const rounds = starts.flat()
  const columns = names.filter((name) => name.startsWith('ours') || name === 'hand-wired')
  const row = (what: string, figure: (name: VariantName) => string): string[] => [what, ...columns.map(figure)]
  const perSecond = `at ${PACE_PER_SECOND} requests/s`
  const less = (figure: (sample: Sample) => number | undefined) => (name: VariantName) =>
    name === 'hand-wired' ? '' : fixed(lessThanByHand(rounds, name, figure), 1, ' times less')
  return table(
    ['', ...columns],
    [
      row('CPU a request, times bare: at full load', (name) => fixed(ratio(rounds, name, fullCost), 2)),
      row(`the same ${perSecond}`, (name) => fixed(ratio(rounds, name, pacedCost), 2)),
      row('the same with a query, at full load', (name) => fixed(ratio(rounds, name, storedCost), 2)),
      row('overhead (ratio − 1) against hand-wired: at full load', less(fullCost)),
      row(`the same ${perSecond}`, less(pacedCost)),
      row(`p99 ${perSecond}, ms over bare`, (name) => fixed(over(rounds, name, pacedP99), 2)),
      row(`RSS after ${FULL_LOAD_REQUESTS} requests, MB over bare`, (name) => fixed(memoryOverBare(memory, name))),
      row('start-up, ms over bare', (name) => fixed(startOverBare(startUps, name)))
    ]
  )
}

function memoryOverBare(memory: Memory[], what: string): number | undefined {
  const of = (what: string): number | undefined => memory.find((entry) => entry.what === what)?.rssBytes
  const [own, bare] = [of(what), of('bare')]
  return own === undefined || bare === undefined ? undefined : (own - bare) / MEGABYTE
}

function startOverBare(startUps: StartUp[], what: string): number | undefined {
  const of = (what: string): number | undefined => startUps.find((entry) => entry.what === what)?.milliseconds
  const [own, bare] = [of(what), of('bare')]
  return own === undefined || bare === undefined ? undefined : own - bare
}

const PAIR_HEAD = [
  'variant',
  'beside',
  'CPU a request, times it',
  '95 % interval',
  'of the cheapest tenth',
  'µs more',
  '95 % interval',
  'may be'
]

/** What each variant costs more than the one it is compared with, each within its round. */
function pairRows(starts: Round[][], measured: (Omit<Pair, 'atMost'> & Partial<Pair>)[]): string[][] {
  const rounds = starts.flat()
  return measured.map(({ name, base, atMost }) => {
    const own = lowestTenth(rounds, name, fullCost) ?? Number.NaN
    const other = lowestTenth(rounds, base, fullCost) ?? Number.NaN
    return [
      name,
      base,
      fixed(ratio(rounds, name, fullCost, base), 3),
      range(
        intervalOfStarts(starts, (rounds) => ratio(rounds, name, fullCost, base)),
        3
      ),
      fixed(own / other, 3),
      fixed(over(rounds, name, fullCost, base), 2),
      range(
        intervalOfStarts(starts, (rounds) => over(rounds, name, fullCost, base)),
        2
      ),
      atMost === undefined ? '' : `at most ${atMost}`
    ]
  })
}

function range(interval: [number, number] | undefined, digits: number): string {
  return interval ? interval.map((value) => value.toFixed(digits)).join(' to ') : '–'
}

function pairsAmong(names: VariantName[]): typeof pairs {
  return pairs.filter(({ name, base }) => names.includes(name) && names.includes(base))
}

/** Each variant beside the one it is made from where that was measured, else beside the first. */
export function comparison(starts: Round[][], names: VariantName[]): string {
  const [first = 'bare', ...others] = names
  const known = pairsAmong(names)
  const rest = others.filter((name) => known.every((pair) => pair.name !== name)).map((name) => ({ name, base: first }))
  return [
    `${starts.length} starts`,
    table(PAIR_HEAD, pairRows(starts, [...rest, ...known])),
    table(
      ['variant', 'KB allocated a request'],
      names.map((name) => [name, fixed(allocatedKilobytes(starts.flat(), name), 1)])
    )
  ].join('\n\n')
}

function explained(names: VariantName[]): string {
  return table(
    ['variant', 'what it is'],
    names.map((name) => [name, variants[name].what])
  )
}

function addedSection(paired: Results['paired']): string[] {
  return [
    `In ${paired[0]?.starts.length} starts of each pair.`,
    table(
      PAIR_HEAD,
      paired.flatMap(({ starts, ...pair }) => pairRows(starts, [pair]))
    ),
    explained(PAIRED)
  ]
}

function memoryTable(memory: Memory[]): string {
  return table(
    ['server', 'RSS MB', 'over bare, MB'],
    memory.map(({ what, rssBytes }) => [what, fixed(rssBytes / MEGABYTE), fixed(memoryOverBare(memory, what))])
  )
}

export function pacedMemorySection(memory: Memory[]): string {
  return [`RSS after ${PACED_MINUTES} minutes.`, memoryTable(memory)].join('\n\n')
}

export function markdown(results: Results): string {
  const { rounds, names, paired, startUps, memory, pacedMemory, growths, peers, wrk, missing } = results
  const sections = [
    '# Results',
    `Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, ${rounds} rounds of each variant, more of those in several groups. Written by \`pnpm bench\`; [README.md](README.md) says how to read it.`,
    '## Summary',
    summary(results),
    '![CPU time a request](results.svg)',
    '## Each variant',
    costTable(results),
    explained(names),
    ...(paired.length > 0 ? ['## What is added', ...addedSection(paired)] : []),
    ...(peers.length > 0 ? ['## Beside FastAPI', peerTable(peers)] : []),
    ...(wrk.length > 0 ? ['## By wrk', wrkTable(wrk, names)] : []),
    ...(startUps.length > 0
      ? [
          '## Start-up',
          table(
            ['server', 'to listening, ms', 'over bare, ms'],
            startUps.map(({ what, milliseconds }) => [what, fixed(milliseconds), fixed(startOverBare(startUps, what))])
          )
        ]
      : []),
    ...(memory.length > 0
      ? ['## Memory', `RSS after ${FULL_LOAD_REQUESTS} requests at full load.`, memoryTable(memory)]
      : []),
    ...(pacedMemory.length > 0 ? [PACED_MEMORY, pacedMemorySection(pacedMemory)] : []),
    ...(growths.length > 0 ? [GROWTH, growthSection(growths)] : []),
    ...(missing.length > 0 ? ['## Not measured', missing.map((what) => `- ${what}`).join('\n')] : [])
  ]
  return `${sections.join('\n\n')}\n`
}

/** The page with another text below a title, where that title was or at the end. */
export function withSection(page: string, title: string, text: string): string {
  const sections = page.split(/^(?=## )/m).map((section) => section.trimEnd())
  const index = sections.findIndex((section) => section.split('\n')[0] === title)
  const at = index === -1 ? sections.length : index
  return `${sections.toSpliced(at, 1, `${title}\n\n${text}`).join('\n\n')}\n`
}

const BAR_X = 120
const BAR_HEIGHT = 20
const ROW = 30
const WIDTH = 760

/** Bars of the CPU time a request, user and system. */
export function chart({ starts, names }: Results): string {
  const rounds = starts.flat()
  const bars = names.map((name) => ({
    name,
    user: typical(rounds, name, ({ full }) => full.userUs) ?? 0,
    system: typical(rounds, name, ({ full }) => full.systemUs) ?? 0,
    ratio: ratio(rounds, name, fullCost)
  }))
  const longest = Math.max(...bars.map(({ user, system }) => user + system))
  const scale = (us: number): number => Math.round((us / longest) * (WIDTH - BAR_X - 140))
  const rows = bars.map(({ name, user, system, ratio }, index) => {
    const y = 44 + index * ROW
    const end = BAR_X + scale(user) + scale(system)
    return `  <text x="${BAR_X - 10}" y="${y + 15}" text-anchor="end">${name}</text>
  <rect x="${BAR_X}" y="${y}" width="${scale(user)}" height="${BAR_HEIGHT}" fill="#3366cc"/>
  <rect x="${BAR_X + scale(user)}" y="${y}" width="${scale(system)}" height="${BAR_HEIGHT}" fill="#99b3e6"/>
  <text x="${end + 8}" y="${y + 15}">${fixed(user + system)} µs, ${fixed(ratio, 2)} ×</text>`
  })
  const height = 54 + bars.length * ROW
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="13">
  <title>CPU time a request</title>
  <rect width="${WIDTH}" height="${height}" fill="#ffffff"/>
  <text x="${BAR_X}" y="24">CPU time a request at full load: user (dark) and system (light)</text>
${rows.join('\n')}
</svg>
`
}
