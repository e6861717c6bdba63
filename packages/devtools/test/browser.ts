import { existsSync, readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { type Browser, chromium, type Page } from 'playwright-core'
import type { Test } from 'tap'
import { startService } from './service.ts'

const folders = (process.env.PATH ?? '').split(delimiter)
const CHROMIUM = [process.env.TEST_CHROMIUM ?? '', ...folders.map((folder) => join(folder, 'chromium'))].find(
  existsSync
)
export const skip = CHROMIUM === undefined ? 'no chromium: apt-get install chromium, or set TEST_CHROMIUM' : false
const AXE = readFileSync(new URL(import.meta.resolve('axe-core')), 'utf8')
const VIEWS = ['requests', 'routes', 'runtime', 'health', 'delivery', 'set-up']
const PICTURES = process.env.TEST_PICTURES

type PageOptions = Parameters<Browser['newPage']>[0]

let browser: Browser | undefined

export async function openPage(t: Test, options: PageOptions = {}) {
  const { app } = await startService(t, { links: { Jaeger: 'http://localhost:16686/trace/{trace_id}' } })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  browser ??= await chromium.launch({ ...(CHROMIUM && { executablePath: CHROMIUM }), args: ['--no-sandbox'] })
  const page = await browser.newPage({ viewport: { width: 1100, height: 700 }, ...options })
  page.setDefaultTimeout(PATIENCE_MS)
  t.teardown(() => page.close())
  const problems: string[] = []
  page.on('console', (message) => void (message.type() === 'error' && problems.push(message.text())))
  page.on('pageerror', (error) => void problems.push(error.message))
  await page.goto(`${address}/_observability`)
  await page.getByText('live', { exact: true }).waitFor()
  return { page, app, address, problems }
}

export async function failingOrder(address: string): Promise<string | null> {
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

export async function picture(page: Page, name: string): Promise<void> {
  if (!PICTURES) return
  await mkdir(PICTURES, { recursive: true })
  await page.screenshot({ path: join(PICTURES, `${name}.png`) })
}

/** Each view has data, fits, and has nothing that axe finds serious. `name` is that of its pictures. */
export async function checkViews(t: Test, name: string, options: PageOptions = {}): Promise<void> {
  const { page, address, problems } = await openPage(t, options)
  await failingOrder(address)
  await page.getByRole('link', { name: 'POST /orders' }).waitFor()
  for (const view of [...VIEWS, 'requests/2']) {
    await page.goto(`${address}/_observability#/${view}`)
    await page.locator('main tbody tr:visible, main canvas:visible').first().waitFor()
    t.same(await seriousIn(page), [], `${view}: nothing serious`)
    t.notOk(await page.evaluate('document.documentElement.scrollWidth > innerWidth'), `${view}: fits`)
    await picture(page, `${view.replace('/', '-')}-${name.replaceAll(' ', '-')}`)
  }
  t.same(problems, [])
}

/** @returns whether it has ended, or was never started. */
export async function endBrowser(): Promise<boolean> {
  await browser?.close()
  return !browser?.isConnected()
}
