import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { freePorts } from '@fastify-observability/testing/ports'
import { STARVED_MS } from '@fastify-observability/testing/starvation'
import { chromium } from 'playwright-core'
import { type Test, test } from 'tap'

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url))
const folders = (process.env.PATH ?? '').split(delimiter)
const CHROMIUM = [process.env.TEST_CHROMIUM ?? '', ...folders.map((folder) => join(folder, 'chromium'))].find(
  existsSync
)
const skip = CHROMIUM === undefined ? 'no chromium: apt-get install chromium, or set TEST_CHROMIUM' : false

/** Starts the demo, and resolves with the address of the page that it names. */
async function startDemo(t: Test): Promise<string> {
  const [orders, payments] = await freePorts(2)
  const env = { ...process.env, ORDERS_PORT: String(orders), PAYMENTS_PORT: String(payments) }
  const demo = spawn(process.execPath, [MAIN], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(demo, 'exit')
  t.teardown(async () => {
    demo.kill('SIGINT')
    await ended
  })
  for await (const line of createInterface(demo.stdout)) {
    const [address] = /http:\S+\/_observability/.exec(line) ?? []
    if (address) return address
  }
  throw new Error('the demo names no page')
}

test('the demo opens with the page, and an order that fails is on it within two seconds', { skip }, async (t) => {
  const address = await startDemo(t)
  const browser = await chromium.launch({ ...(CHROMIUM && { executablePath: CHROMIUM }), args: ['--no-sandbox'] })
  t.teardown(() => browser.close())
  const page = await browser.newPage()
  await page.goto(address)
  await page.getByText('live', { exact: true }).waitFor()
  const { status, headers } = await fetch(new URL('/orders', address), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ customer: 'ada\u0000', amount: 4_200 })
  })
  t.equal(status, 500)
  const row = page.getByRole('row', { name: '500' }).filter({ hasText: 'POST /orders' })
  await row.getByRole('link').click({ timeout: 2_000 + STARVED_MS })
  await page.locator('.spans').waitFor()
  t.ok((await page.locator('.spans .span').count()) >= 4)
  const story = String(await page.locator('main').textContent())
  t.match(story, /invalid byte sequence[\s\S]*examples\/orders\/\w+\.ts:\d+/)
  for (const part of [
    'INSERT INTO orders',
    'processing the order',
    'order charged',
    'request completed',
    String(headers.get('x-request-id'))
  ]) {
    t.ok(story.includes(part), part)
  }
})
