import { sendLoad } from './load.ts'

const { ORDERS_URL: url = 'http://127.0.0.1:8000', REQUESTS_PER_SECOND = '5' } = process.env
const perSecond = Number(REQUESTS_PER_SECOND)

if (!(perSecond > 0 && perSecond <= 1000)) {
  console.error(`REQUESTS_PER_SECOND must be a number above 0, up to 1000, got "${REQUESTS_PER_SECOND}": set 5.`)
  process.exit(1)
}

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => stop.abort())

console.log(`${perSecond} requests a second to ${url}`)
await sendLoad(perSecond, { url, signal: stop.signal }, (tally) => {
  console.log(
    Object.entries(tally)
      .map(([outcome, count]) => `${outcome}: ${count}`)
      .sort()
      .join('  ')
  )
})
