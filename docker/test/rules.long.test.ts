import { execFile, spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { test } from 'tap'

const run = promisify(execFile)
const FOLDER = fileURLToPath(new URL('../prometheus', import.meta.url))
const NO_PROMTOOL = spawnSync('promtool', ['--version']).error !== undefined && 'promtool is not on the PATH'

for (const file of globSync('tests/budgets*.yaml', { cwd: FOLDER }).sort()) {
  test(`raises the alerts that ${file} expects`, { skip: NO_PROMTOOL }, async (t) => {
    const { stdout, stderr } = await run('promtool', ['test', 'rules', file], { cwd: FOLDER }).catch((error) => error)
    t.match(stdout, 'SUCCESS', `${stdout}${stderr}`)
  })
}
