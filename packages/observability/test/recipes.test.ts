import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { type Test, test } from 'tap'
import { NO_REDIS, startRedis } from './redis.ts'

const PAGE = readFileSync(new URL('../../../docs/jobs.md', import.meta.url), 'utf8')
const BLOCKS = new Map(
  Array.from(PAGE.matchAll(/```ts\n\/\/ (\S+)\n(.*?)```/gs), ([, name, code = '']) => [name, code])
)
const PACKAGES = ['bullmq', 'fastify', '@fastify/schedule', 'toad-scheduler']

/** What the work of the recipes is here, and what tells that it is done. */
const PREFACE = `
const { promise: imported, resolve } = Promise.withResolvers()
async function importOrders(url) {
  setTimeout(resolve, 20)
  return url
}
`
const CLOSE = 'await imported\nawait app.close()'
const ENQUEUE = `await app.inject({ method: 'POST', url: '/imports' })\n${CLOSE}`

/** Runs a block of the page in a process of its own, sooner than it says. @returns the lines of its jobs */
async function run(t: Test, name: string, tail: string, port = 6379): Promise<{ msg: string; job: string }[]> {
  const sooner = (BLOCKS.get(name) ?? '')
    .replace('6379', String(port))
    .replace('60_000', '20')
    .replace('minutes: 1', 'milliseconds: 20')
  const source = PACKAGES.reduce(
    (code, specifier) => code.replace(`'${specifier}'`, `'${import.meta.resolve(specifier)}'`),
    sooner.replace("'fastify-observability'", `'${import.meta.resolve('../src/index.ts')}'`)
  )
  const file = join(t.testdir({ [name]: PREFACE + source + tail }), name)
  const { stdout } = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines = (await text(stdout)).trim().split('\n')
  return lines.map((line) => JSON.parse(line)).filter(({ msg }) => msg.startsWith('job '))
}

test('every block of the page is run', async (t) => {
  t.same(BLOCKS.size, PAGE.match(/```ts/g)?.length)
  const named = ['bullmq-telemetry.ts', 'bullmq-observe.ts', 'schedule.ts', 'timer.ts', 'start.ts', 'script.ts']
  t.same(Array.from(BLOCKS.keys()), named)
})

for (const name of ['bullmq-telemetry.ts', 'bullmq-observe.ts']) {
  test(`${name} makes a job of what a request has enqueued`, { skip: NO_REDIS }, async (t) => {
    const { port } = await startRedis(t)
    t.match(await run(t, name, ENQUEUE, port), [{ msg: 'job completed', job: 'orders.import', attempt: 1 }])
  })
}

for (const name of ['schedule.ts', 'timer.ts', 'start.ts']) {
  test(`${name} makes a job of each run`, async (t) => {
    t.match((await run(t, name, CLOSE))[0], { msg: 'job completed', job: 'import' })
  })
}

test('script.ts ends by itself, and its job has been logged', async (t) => {
  t.match(await run(t, 'script.ts', ''), [{ msg: 'job completed', job: 'import' }])
})
