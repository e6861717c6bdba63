import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { load, startServer } from './process.ts'
import { SMALL } from './sample.ts'
import type { Ends, VariantName } from './variants.ts'

// Valgrind makes each take forty times as long, and the compilers are done by then.
const WARM_UP = 40_000
const SETTLING = 500
const REQUESTS = 2_000
const CONNECTIONS = 16

/** Whether what counts instructions is installed. */
export function canCount(): boolean {
  return ['valgrind', 'callgrind_control'].every((program) => spawnSync(program, ['--version']).status === 0)
}

/** Instructions a request of the server's process, all its threads together. */
export async function instructionsOf(variant: VariantName, ends: Ends): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-callgrind-'))
  const counts = join(folder, 'counts')
  const under = ['valgrind', '--quiet', '--tool=callgrind', '--instr-atstart=no', `--callgrind-out-file=${counts}`]
  const server = await startServer({ variant, ends, log: 'ignore', under })
  try {
    const url = server.url + SMALL
    await load({ url, requests: WARM_UP, connections: CONNECTIONS })
    control('--instr=on', server.pid)
    await load({ url, requests: SETTLING, connections: CONNECTIONS })
    control('--zero', server.pid)
    await load({ url, requests: REQUESTS, connections: CONNECTIONS })
    control('--instr=off', server.pid)
    await server.end()
    return Number(/^totals: (\d+)/m.exec(readFileSync(counts, 'utf8'))?.[1]) / REQUESTS
  } finally {
    await server.stop()
    rmSync(folder, { recursive: true })
  }
}

function control(command: string, pid: number): void {
  const { status, stderr } = spawnSync('callgrind_control', [command, String(pid)], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`callgrind_control ${command}: ${stderr}`)
}
