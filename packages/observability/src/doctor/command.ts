#!/usr/bin/env node
import { existsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { type Arguments, parseArguments, USAGE } from './arguments.ts'
import { checkCopies } from './checks/copies.ts'
import { checkVersions, isNodeSupported } from './checks/versions.ts'
import { dependencyTree } from './dependency-tree.ts'
import type { Finding } from './finding.ts'
import { applicationOf, OWN } from './manifest.ts'
import { renderJson, renderText } from './rendering.ts'

// Nodes that are too old for the suite load what is imported above, to report that they are.

interface Ending {
  readonly code: number
  readonly output?: string
  readonly complaint?: string
}

const WRONG = 1
const BAD_USAGE = 2
const WHOLE_MS = 60_000

async function run(args: readonly string[]): Promise<Ending> {
  const asked = read(args)
  return 'code' in asked ? asked : examine(asked)
}

function read(args: readonly string[]): Arguments | Ending {
  try {
    const asked = parseArguments(args)
    if (asked === 'help') return { code: 0, output: USAGE }
    if (asked === 'version') return { code: 0, output: `${OWN.version}\n` }
    const file = asked.file === undefined ? undefined : resolve(asked.file)
    if (file === undefined || existsSync(file)) return { ...asked, file }
    throw new Error(`there is no file ${asked.file}`)
  } catch (error) {
    const complaint = error instanceof Error ? error.message : String(error)
    return { code: BAD_USAGE, complaint: `${OWN.name}: ${complaint}\n\n${USAGE}` }
  }
}

async function examine(asked: Arguments): Promise<Ending> {
  const findings = await findingsOf(asked)
  const code = findings.some(({ state }) => state === 'wrong') ? WRONG : 0
  return { code, output: (asked.json ? renderJson : renderText)(OWN, findings) }
}

async function findingsOf(asked: Arguments): Promise<Finding[]> {
  const application = applicationOf(asked.file === undefined ? process.cwd() : dirname(asked.file))
  const packages = application ? dependencyTree(application) : []
  const findings = [...checkVersions(application, packages), ...checkCopies(packages)]
  if (!isNodeSupported(packages)) return findings
  const { diagnose } = await import('./diagnosis.ts')
  return [...findings, ...(await diagnose(asked, application, packages))]
}

/** Ends the process once all is written, whatever has been left open. */
function end({ code, output = '', complaint = '' }: Ending): void {
  process.stderr.write(complaint, () => process.stdout.write(output, () => process.exit(code)))
}

// Each step has its own limit; this one is for what nobody has thought of.
setTimeout(end, WHOLE_MS, { code: WRONG, complaint: `${OWN.name}: not finished after ${WHOLE_MS / 1_000} s\n` })
end(await run(process.argv.slice(2)))
