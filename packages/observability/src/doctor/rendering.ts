import type { Finding } from './finding.ts'
import type { Manifest } from './manifest.ts'

const MARKS = { fine: '✓', note: '!', wrong: '✗' } as const
const INDENT = ' '.repeat(14)

/** For people: a line for each finding, with remedy and link below what is not fine. */
export function renderText({ name, version }: Manifest, findings: readonly Finding[]): string {
  const lines = findings.flatMap(({ check, state, text, remedy, link }) => [
    `${MARKS[state]} ${check.padEnd(INDENT.length - 2)}${text}`,
    ...[remedy, link].flatMap((line) => (line ? [INDENT + line] : []))
  ])
  const { wrong, note } = countsOf(findings)
  const end = wrong > 0 ? `${wrong} wrong` : 'nothing is wrong'
  return [`${name} ${version} doctor`, ...lines, `${end}${note > 0 ? `, ${note} to look at` : ''}`, ''].join('\n')
}

/** For tools. */
export function renderJson({ name, version }: Manifest, findings: readonly Finding[]): string {
  return `${JSON.stringify({ name, version, ...countsOf(findings), findings }, undefined, 2)}\n`
}

function countsOf(findings: readonly Finding[]): { wrong: number; note: number } {
  const count = (wanted: Finding['state']): number => findings.filter(({ state }) => state === wanted).length
  return { wrong: count('wrong'), note: count('note') }
}
