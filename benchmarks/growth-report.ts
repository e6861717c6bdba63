import { type Growth, judge, marginalUs } from './growth.ts'
import { fixed, table } from './table.ts'
import type { VariantName } from './variants.ts'

export const GROWTH = '## As the work grows'

/** The variant whose growth is judged. */
const JUDGED = 'ours'

/** What stands below the title: whether the cost of each axis grows as it may, and what it is at each point. */
export function growthSection(growths: Growth[]): string {
  const verdicts = growths.flatMap(({ what, of, growth, points, costs }) =>
    costs
      .filter(({ name }) => name === JUDGED)
      .map(({ us }) => {
        const { isFine, times } = judge(growth, points, us)
        const measure = growth === 'flat' ? 'dearest over cheapest' : 'one more, last step over the one before'
        const more = growth === 'flat' ? '' : `${fixed(marginalUs(points, us), 2)} µs a ${of}`
        return [what, growth, isFine ? 'yes' : 'no', `${measure}: ${fixed(times, 2)} times`, more]
      })
  )
  return [
    table([`with more of these, the cost of ${JUDGED}`, 'should be', 'is', 'because', 'one more'], verdicts),
    '![CPU time as the work grows](growth.svg)',
    ...growths.map(({ what, of, growth, points, costs }) =>
      table(
        [what, ...costs.map(({ name }) => `${name}, µs a ${of}`)],
        [
          ...points.map((point, index) => [String(point), ...costs.map(({ us }) => fixed(us[index], 1))]),
          ...(growth === 'linear' ? [['one more', ...costs.map(({ us }) => fixed(marginalUs(points, us), 2))]] : [])
        ]
      )
    )
  ].join('\n\n')
}

/** A sentence for each axis that does not grow as it may. */
export function overgrown(growths: Growth[]): string[] {
  return growths.flatMap(({ what, growth, points, costs }) =>
    costs.flatMap(({ name, us }) => {
      const { isFine, times } = judge(growth, points, us)
      return name !== JUDGED || isFine
        ? []
        : [`the cost of ${name} is not ${growth} in ${what}: ${times.toFixed(2)} times`]
    })
  )
}

const COLORS: Partial<Record<VariantName, string>> = { bare: '#888888', ours: '#3366cc', 'ours-0': '#99b3e6' }
const OTHER_COLOR = '#cc6633'
const PANEL = { width: 380, height: 240, left: 58, right: 20, top: 34, bottom: 58 }
const COLUMNS = 2

/** A panel for each axis, both of its scales linear: what grows linearly is a straight line. */
export function growthChart(growths: Growth[]): string {
  const width = PANEL.width * COLUMNS
  const height = PANEL.height * Math.ceil(growths.length / COLUMNS)
  const panels = growths.map((growth, index) => {
    const [x, y] = [(index % COLUMNS) * PANEL.width, Math.floor(index / COLUMNS) * PANEL.height]
    return `  <g transform="translate(${x} ${y})">\n${panel(growth)}\n  </g>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12">
  <title>CPU time as the work grows</title>
  <rect width="${width}" height="${height}" fill="#ffffff"/>
${panels.join('\n')}
</svg>
`
}

function panel({ what, of, points, costs }: Growth): string {
  const { left, top } = PANEL
  const right = PANEL.width - PANEL.right
  const bottom = PANEL.height - PANEL.bottom
  const most = Math.max(...costs.flatMap(({ us }) => us))
  const x = (point: number): number => Math.round(left + (point / Math.max(...points)) * (right - left))
  const y = (us: number): number => Math.round(bottom - (us / most) * (bottom - top))
  const lines = costs.flatMap(({ name, us }, index) => {
    const color = COLORS[name] ?? OTHER_COLOR
    const places = points.map((point, at) => `${x(point)},${y(us[at] ?? 0)}`)
    const legend = left + index * 76
    return [
      `    <polyline points="${places.join(' ')}" fill="none" stroke="${color}" stroke-width="2"/>`,
      ...places.map(
        (place) => `    <circle cx="${place.split(',')[0]}" cy="${place.split(',')[1]}" r="3" fill="${color}"/>`
      ),
      `    <text x="${legend}" y="${PANEL.height - 14}" fill="${color}">${name}</text>`
    ]
  })
  return [
    `    <text x="${left}" y="20">µs a ${of}, by ${what}</text>`,
    `    <path d="M${left} ${top}V${bottom}H${right}" fill="none" stroke="#444444"/>`,
    `    <text x="${left - 6}" y="${top + 4}" text-anchor="end">${fixed(most)}</text>`,
    `    <text x="${left - 6}" y="${bottom + 4}" text-anchor="end">0</text>`,
    ...[Math.max(...points)].map(
      (point) => `    <text x="${x(point)}" y="${bottom + 16}" text-anchor="middle">${point}</text>`
    ),
    ...lines
  ].join('\n')
}
