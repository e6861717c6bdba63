import { existsSync, readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { type Browser, chromium, type Page, type Route } from 'playwright-core'
import { type Test, test } from 'tap'
import { startService } from './service.ts'

const folders = (process.env.PATH ?? '').split(delimiter)
const CHROMIUM = [process.env.TEST_CHROMIUM ?? '', ...folders.map((folder) => join(folder, 'chromium'))].find(
  existsSync
)
const skip = CHROMIUM === undefined ? 'no chromium: apt-get install chromium, or set TEST_CHROMIUM' : false
const AXE = readFileSync(new URL(import.meta.resolve('axe-core')), 'utf8')
const VIEWS = ['requests', 'routes', 'runtime', 'health', 'delivery', 'set-up']
const PICTURES = process.env.TEST_PICTURES

let browser: Browser | undefined

async function openPage(t: Test, options: Parameters<Browser['newPage']>[0] = {}) {
  const { app } = await startService(t, { links: { Jaeger: 'http://localhost:16686/trace/{trace_id}' } })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  browser ??= await chromium.launch({ ...(CHROMIUM && { executablePath: CHROMIUM }), args: ['--no-sandbox'] })
  const page = await browser.newPage({ viewport: { width: 1100, height: 700 }, ...options })
  t.teardown(() => page.close())
  const problems: string[] = []
  page.on('console', (message) => void (message.type() === 'error' && problems.push(message.text())))
  page.on('pageerror', (error) => void problems.push(error.message))
  await page.goto(`${address}/_observability`)
  await page.getByText('live', { exact: true }).waitFor()
  return { page, app, address, problems }
}

async function failingOrder(address: string): Promise<string | null> {
  await fetch(`${address}/ok`)
  const { headers } = await fetch(`${address}/orders`, { method: 'POST' })
  return headers.get('x-request-id')
}

/** What axe finds serious or worse. */
async function seriousIn(page: Page): Promise<string[]> {
  // The policy of the page allows no script but its own; the inspector is not bound by it.
  await page.evaluate(AXE)
  return page.evaluate(async () => {
    const { violations } = await Reflect.get(globalThis, 'axe').run()
    return violations
      .filter(({ impact }: { impact: string }) => impact === 'serious' || impact === 'critical')
      .map(({ id, nodes }: { id: string; nodes: { html: string }[] }) => `${id}: ${nodes[0]?.html}`)
  })
}

async function picture(page: Page, name: string): Promise<void> {
  if (!PICTURES) return
  await mkdir(PICTURES, { recursive: true })
  await page.screenshot({ path: join(PICTURES, `${name}.png`) })
}

test('a failing order has its row within two seconds, and its story behind it', { skip }, async (t) => {
  const { page, address, problems } = await openPage(t)
  const id = await failingOrder(address)
  await page.getByRole('link', { name: 'POST /orders' }).click({ timeout: 2_000 })
  await page.getByRole('heading', { name: 'Error: the charge failed' }).waitFor()
  await picture(page, 'story')
  t.equal(await page.locator('.spans .span').count(), 6)
  const story = String(await page.locator('main').textContent())
  for (const part of [
    'validating the order',
    'order stored',
    'request completed',
    'SELECT * FROM lines WHERE id = $1',
    '3 times',
    'card refused',
    "const cause = new Error('card refused')",
    String(id)
  ]) {
    t.ok(story.includes(part), part)
  }
  t.match(story, /service\.ts:\d+/)
  t.same(problems, [])
})

test('a job and the request that has enqueued it link to each other', { skip }, async (t) => {
  const { page, address, problems } = await openPage(t)
  await fetch(`${address}/enqueue`, { method: 'POST' })
  await page.getByRole('link', { name: 'JOB mail' }).click()
  await page.getByText('attempt 2 of 3').waitFor()
  await picture(page, 'job')
  t.equal(await page.locator('.spans .span').count(), 1)
  t.equal(await page.getByRole('heading', { name: 'Request headers' }).count(), 0)
  await page.getByRole('link', { name: 'POST /enqueue' }).click()
  await page.getByRole('heading', { name: 'POST /enqueue 200' }).waitFor()
  await page.getByRole('heading', { name: 'Request headers' }).waitFor()
  t.match(await page.locator('main').textContent(), /^← All requests[\s\S]*JobsJOB mail/)
  t.same(problems, [])
})

test('says how many came too fast to be recorded', { skip }, async (t) => {
  const { page, app } = await openPage(t)
  await Promise.all(Array.from({ length: 3_000 }, () => app.inject('/ok')))
  await page.getByText(/^[\d,]+ requests or jobs came too fast to be recorded\.$/).waitFor()
  t.pass()
})

test('rows are filtered, and stand still while the list is paused', { skip }, async (t) => {
  const { page, address } = await openPage(t)
  await failingOrder(address)
  const rows = page.locator('.requests tbody tr')
  // A row may come before its end, which has the status.
  await rows.filter({ hasText: '502' }).waitFor()
  await page.getByLabel('Status').fill('5')
  t.equal(await rows.count(), 1)
  await page.getByLabel('Status').fill('')
  await page.getByRole('button', { name: 'Pause' }).click()
  await failingOrder(address)
  t.equal(await rows.count(), 2)
  await page.getByRole('button', { name: 'Resume' }).click()
  await rows.nth(3).waitFor()
})

test('keeps the rows that come while the list of those before is on its way', { skip }, async (t) => {
  const { page, address } = await openPage(t)
  await fetch(`${address}/ok`)
  const asked = Promise.withResolvers<Route>()
  await page.route('**/api/requests', asked.resolve)
  await page.reload()
  const route = await asked.promise
  const response = await route.fetch()
  await fetch(`${address}/orders`, { method: 'POST' })
  const later = page.getByRole('link', { name: 'POST /orders' })
  await later.waitFor()
  await route.fulfill({ response })
  await page.getByRole('link', { name: 'GET /ok' }).waitFor()
  t.equal(await later.count(), 1)
})

for (const [what, options] of [
  ['on a desk', {}],
  ['400 pixels wide', { viewport: { width: 400, height: 800 } }],
  ['in the dark', { colorScheme: 'dark' }]
] as const) {
  test(`each view has data, fits and is accessible ${what}`, { skip }, async (t) => {
    const { page, address, problems } = await openPage(t, options)
    await failingOrder(address)
    await page.getByRole('link', { name: 'POST /orders' }).waitFor()
    for (const view of [...VIEWS, 'requests/2']) {
      await page.goto(`${address}/_observability#/${view}`)
      await page.locator('main tbody tr:visible, main canvas:visible').first().waitFor()
      t.same(await seriousIn(page), [], `${view}: nothing serious`)
      t.notOk(await page.evaluate('document.documentElement.scrollWidth > innerWidth'), `${view}: fits`)
      await picture(page, `${view.replace('/', '-')}-${what.replaceAll(' ', '-')}`)
    }
    t.same(problems, [])
  })
}

test('the browser ends', { skip }, async (t) => {
  await browser?.close()
  t.notOk(browser?.isConnected())
})
