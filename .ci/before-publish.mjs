// Refuses to publish what nobody could import. Run by each package's `prepublishOnly`, in its folder.
import { existsSync, readFileSync } from 'node:fs'

const { name, exports } = JSON.parse(readFileSync('package.json', 'utf8'))
const { npm_config_user_agent: agent = '' } = process.env

function refuse(reason) {
  console.error(`${name} is not published: ${reason}`)
  process.exit(1)
}

// npm would leave `workspace:` and `catalog:` in package.json, and its `exports` at the sources.
if (!agent.startsWith('pnpm/')) refuse('publish with pnpm')
const missing = Object.values(exports)
  .map(({ built }) => built)
  .filter((file) => !existsSync(file))
if (missing.length > 0) refuse(`run "pnpm build" first, there is no ${missing.join(', ')}`)
