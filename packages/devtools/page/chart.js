import { html, useEffect, useRef } from './preact.js'
import UPlot from './uplot.js'

const HEIGHT = 160

/** A colour of the page as a canvas takes it, for the light or dark that holds now. */
function colour(name) {
  const probe = document.createElement('i')
  probe.style.color = `var(${name})`
  document.body.append(probe)
  const { color } = getComputedStyle(probe)
  probe.remove()
  return color
}

/** Lines over time. A screen reader reads the last values. */
export function Chart({ title, unit, series, samples }) {
  const place = useRef()
  const plot = useRef()
  const names = Object.keys(series)
  const data = [samples.map(({ timeMs }) => timeMs / 1_000), ...names.map((name) => samples.map(series[name]))]
  useEffect(() => {
    const rule = { stroke: colour('--line'), width: 1 }
    const axis = { stroke: colour('--muted'), grid: rule, ticks: rule }
    const clock = (seconds) => new Date(1_000 * seconds).toLocaleTimeString('en-GB')
    const options = {
      width: place.current.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      axes: [
        { ...axis, space: 80, values: (_plot, ticks) => ticks.map(clock) },
        { ...axis, size: 76, values: (_plot, ticks) => ticks.map((tick) => `${tick} ${unit}`) }
      ],
      scales: { y: { range: (_plot, _least, most) => [0, Math.max(1, most * 1.1)] } },
      series: [
        {},
        ...names.map((label, index) => ({
          label,
          stroke: colour(`--series-${index}`),
          width: 2,
          points: { show: false }
        }))
      ]
    }
    plot.current = new UPlot(options, data, place.current)
    const resized = new ResizeObserver(() => plot.current.setSize({ width: place.current.clientWidth, height: HEIGHT }))
    resized.observe(place.current)
    return () => {
      resized.disconnect()
      plot.current.destroy()
    }
  }, [])
  useEffect(() => plot.current?.setData(data), [samples])
  const last = names
    .map((name, index) => `${name} ${(data[index + 1].at(-1) ?? 0).toFixed(unit ? 1 : 0)} ${unit}`.trim())
    .join(', ')
  return html`
    <figure class="chart">
      <figcaption>${title}: <strong>${last}</strong></figcaption>
      <div ref=${place} role="img" aria-label=${`${title} over five minutes, now ${last}`}></div>
    </figure>
  `
}
