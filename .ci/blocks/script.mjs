// node script.mjs NAME: fails for one that is no script of the repository and no command of pnpm.
import { readFileSync } from 'node:fs'

const { scripts } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
const [, , name] = process.argv
if (!(name in scripts) && !['install', 'exec'].includes(name)) throw new Error(`there is no script ${name}`)
