import { STARVED_MS } from '@fastify-observability/testing/starvation'
import type { Route } from 'playwright-core'
import { test } from 'tap'
import { checkViews, endBrowser, failingOrder, openPage, picture, skip } from './browser.ts'
import { floodJobs } from './service.ts'

test('a failing order has its row within two seconds, and its story behind it', { skip }, async (t) => {
  const { page, address, problems } = await openPage(t)
  const id = await failingOrder(address)
  await page.getByRole('link', { name: 'POST /orders' }).click({ timeout: 2_000 + STARVED_MS })
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
  // The row in the list says which attempt it is, too.
  await page.locator('.summary').getByText('attempt 2 of 3').waitFor()
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
  await floodJobs(app)
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

test('each view has data, fits and is accessible on a desk', { skip }, async (t) => checkViews(t, 'on a desk'))

test('the browser ends', { skip }, async (t) => t.ok(await endBrowser()))
