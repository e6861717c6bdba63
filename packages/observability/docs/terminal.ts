// Draws what shop.ts writes to a terminal, as it is: `node packages/observability/docs/terminal.ts` writes terminal.svg.
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'

const ROOT = new URL('../../..', import.meta.url).pathname
const SHOP = 'packages/observability/docs/shop.ts'
// Standard output is a pipe here.
const TERMINAL = 'data:text/javascript,process.stdout.isTTY=true'
const COLORS: Record<string, string> = { 31: '#ff7b72', 32: '#7ee787', 33: '#e3b341', 34: '#79c0ff', 36: '#76e3ea' }
const DIM = '2'
const COLUMNS = 110
const WIDTH = 8.43
const HEIGHT = 19
const MARGIN = 18

/** What the service writes, with its colours. */
export async function written(): Promise<string> {
  const env = { PATH: process.env.PATH, FORCE_COLOR: '1' }
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', TERMINAL, SHOP], { cwd: ROOT, env })
  return stdout.trimEnd()
}

export function draw(output: string): string {
  const rows = output.split('\n').flatMap(wrapped)
  const width = Math.round(2 * MARGIN + WIDTH * COLUMNS)
  const height = 2 * MARGIN + HEIGHT * rows.length
  const texts = rows.map(
    (row, index) => `<text x="${MARGIN}" y="${MARGIN + HEIGHT * (index + 0.75)}" xml:space="preserve">${row}</text>`
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img"
  aria-label="A terminal with one row for each request, and an error with its own frames below it"
  font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14" fill="#e6edf3">
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
${texts.join('\n')}
</svg>
`
}

/** A row as a terminal shows it, which goes on in the next one where it is longer than the terminal is wide. */
function wrapped(row: string): string[] {
  const rows: string[] = []
  let current = ''
  let column = 0
  let attribute = ''
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are control characters
  for (const [index, part] of row.split(/\u001b\[(\d+)m/).entries()) {
    if (index % 2 === 1) {
      const color = COLORS[part]
      attribute = part === DIM ? ' fill-opacity="0.6"' : color ? ` fill="${color}"` : ''
      continue
    }
    for (let rest = part; rest !== ''; ) {
      const fitting = rest.slice(0, COLUMNS - column)
      current += `<tspan${attribute}>${escaped(fitting)}</tspan>`
      column += fitting.length
      rest = rest.slice(fitting.length)
      if (rest === '') break
      rows.push(current)
      current = ''
      column = 0
    }
  }
  return [...rows, current]
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}

if (import.meta.main) await writeFile(new URL('terminal.svg', import.meta.url), draw(await written()))
