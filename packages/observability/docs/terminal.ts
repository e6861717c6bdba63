// Draws what shop.ts writes to a terminal, as it is: `node packages/observability/docs/terminal.ts` writes terminal.svg.
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'

const ROOT = new URL('../../..', import.meta.url).pathname
const SHOP = 'packages/observability/docs/shop.ts'
const COLORS: Record<string, string> = { 31: '#ff7b72', 32: '#7ee787', 33: '#e3b341', 34: '#79c0ff', 36: '#76e3ea' }
const DIM = '2'
const WIDTH = 8.43
const HEIGHT = 19
const MARGIN = 18

/** What the service writes, with its colours. */
export async function written(): Promise<string> {
  const env = { PATH: process.env.PATH, FORCE_COLOR: '1', NODE_ENV: 'development' }
  const { stdout } = await promisify(execFile)(process.execPath, [SHOP], { cwd: ROOT, env })
  return stdout.trimEnd()
}

export function draw(output: string): string {
  const rows = output.split('\n')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are control characters
  const plain = rows.map((row) => row.replace(/\u001b\[\d+m/g, ''))
  const width = Math.round(2 * MARGIN + WIDTH * Math.max(...plain.map(({ length }) => length)))
  const height = 2 * MARGIN + HEIGHT * rows.length
  const texts = rows.map(
    (row, index) =>
      `<text x="${MARGIN}" y="${MARGIN + HEIGHT * (index + 0.75)}" xml:space="preserve">${spansOf(row)}</text>`
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img"
  aria-label="A terminal with one row for each request, and an error with its own frames below it"
  font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14" fill="#e6edf3">
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
${texts.join('\n')}
</svg>
`
}

function spansOf(row: string): string {
  let attribute = ''
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are control characters
  const parts = row.split(/\u001b\[(\d+)m/)
  return parts
    .map((part, index) => {
      if (index % 2 === 0) return part && `<tspan${attribute}>${escaped(part)}</tspan>`
      const color = COLORS[part]
      attribute = part === DIM ? ' fill-opacity="0.6"' : color ? ` fill="${color}"` : ''
      return ''
    })
    .join('')
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}

if (import.meta.main) await writeFile(new URL('terminal.svg', import.meta.url), draw(await written()))
