import { cpus } from 'node:os'
import { PACE_PER_SECOND, type Round, type Sample } from './sample.ts'
import type { StartUp } from './startup.ts'
import { ratio, total, typical } from './statistics.ts'
import { type VariantName, variants } from './variants.ts'

export interface Results {
  rounds: Round[]
  names: VariantName[]
  startUps: StartUp[]
  /** RSS after many requests, by variant. */
  grown: { name: VariantName; rssBytes: number; requests: number }[]
  /** What could not be measured here, and why. */
  missing: string[]
}

const MEGABYTE = 1024 ** 2

export const fullCost = (sample: Sample): number | undefined => total(sample.full)
export const pacedCost = (sample: Sample): number | undefined => total(sample.paced)
export const storedCost = (sample: Sample): number | undefined => total(sample.stored)

/** A table of Markdown, its columns padded so that it is one in a terminal too. */
function table(head: string[], rows: string[][]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)))
  const line = (cells: string[]): string =>
    `| ${cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))).join(' | ')} |`
  const rule = widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`))
  return [line(head), line(rule), ...rows.map(line)].join('\n')
}

function fixed(value: number | undefined, digits = 0, unit = ''): string {
  return value === undefined ? '–' : `${value.toFixed(digits)}${unit}`
}

export function costTable({ rounds, names }: Pick<Results, 'rounds' | 'names'>): string {
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
      fixed(
        of(({ paced }) => paced?.p99Ms),
        2
      ),
      fixed(of(({ rssBytes }) => rssBytes / MEGABYTE)),
      fixed(ratio(rounds, name, storedCost), 2),
      fixed(of(storedCost), 1)
    ]
  })
  return table(head, rows)
}

/** How many times less overhead than the parts wired by hand. */
export function lessThanByHand(rounds: Round[], figure: (sample: Sample) => number | undefined): number | undefined {
  const ours = ratio(rounds, 'ours', figure)
  const byHand = ratio(rounds, 'hand-wired', figure)
  return ours === undefined || byHand === undefined ? undefined : (byHand - 1) / (ours - 1)
}

export function markdown(results: Results): string {
  const { rounds, names, startUps, grown, missing } = results
  const bareStart = startUps.find(({ what }) => what === 'bare')?.milliseconds
  const bareGrown = grown.find(({ name }) => name === 'bare')?.rssBytes
  const sections = [
    '# Results',
    `Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, ${rounds.length} rounds. Written by \`pnpm bench\`; [README.md](README.md) says how to read it.`,
    '![CPU time a request](results.svg)',
    costTable(results),
    `Overhead (ratio − 1) against hand-wired: ${fixed(lessThanByHand(rounds, fullCost), 1)} times less at full load, ${fixed(lessThanByHand(rounds, pacedCost), 1)} times less at ${PACE_PER_SECOND} requests/s.`,
    table(
      ['variant', 'what it is'],
      names.map((name) => [name, variants[name].what])
    ),
    ...(startUps.length > 0
      ? [
          '## Start-up',
          table(
            ['server', 'to listening, ms', 'over bare, ms'],
            startUps.map(({ what, milliseconds }) => [
              what,
              fixed(milliseconds),
              fixed(bareStart === undefined ? undefined : milliseconds - bareStart)
            ])
          )
        ]
      : []),
    ...(grown.length > 0
      ? [
          '## Memory',
          table(
            ['variant', 'requests', 'RSS MB', 'over bare, MB'],
            grown.map(({ name, requests, rssBytes }) => [
              name,
              String(requests),
              fixed(rssBytes / MEGABYTE),
              fixed(bareGrown === undefined ? undefined : (rssBytes - bareGrown) / MEGABYTE)
            ])
          )
        ]
      : []),
    ...(missing.length > 0 ? ['## Not measured', missing.map((what) => `- ${what}`).join('\n')] : [])
  ]
  return `${sections.join('\n\n')}\n`
}

const BAR_X = 120
const BAR_HEIGHT = 20
const ROW = 30
const WIDTH = 760

/** Bars of the CPU time a request, user and system. */
export function chart({ rounds, names }: Results): string {
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
