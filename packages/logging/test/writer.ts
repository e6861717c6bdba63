import { type ChildProcess, spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import type { Report, Task } from './writing.ts'

export interface Writer {
  child: ChildProcess
  /** All lines of the task are given to the sink. */
  written: Promise<unknown>
  /** The process waits for standard input. */
  waiting: Promise<unknown>
  /** What came to standard output. */
  output: () => Promise<string>
  /** The process has ended. */
  report: Promise<Report & { code: number | null }>
}

/** Starts a process that writes lines of 500 bytes. */
export function startWriter(task: Task, stdout: 'pipe' | number = 'pipe'): Writer {
  const script = join(import.meta.dirname, 'writing.ts')
  const child = spawn(process.execPath, [script, JSON.stringify(task)], { stdio: ['pipe', stdout, 'pipe'] })
  const heard = new EventEmitter()

  async function report(): Promise<Report & { code: number | null }> {
    const said: string[] = []
    if (child.stderr) {
      for await (const line of createInterface(child.stderr)) {
        said.push(line)
        heard.emit(line)
      }
    }
    if (child.exitCode === null) await once(child, 'exit')
    const last = said.findLast((line) => line.startsWith('{"dropped"'))
    if (!last) throw new Error(said.join('\n'))
    return { ...JSON.parse(last), code: child.exitCode }
  }

  return {
    child,
    written: once(heard, '"written"'),
    waiting: once(heard, '"waiting"'),
    output: async () => (child.stdout ? text(child.stdout) : ''),
    report: report()
  }
}

/** The numbers of the lines in a text. Throws where a line is torn. */
export function numbersIn(text: string): number[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line).n)
}

export function droppedLines({ dropped }: Report): number {
  return Object.values(dropped).reduce((sum, lines) => sum + lines, 0)
}
