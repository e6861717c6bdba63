import { readFile, realpath, stat } from 'node:fs/promises'
import { relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A frame of the application's own, with the lines around it. */
export interface OwnFrame {
  readonly file: string
  readonly line: number
  readonly text: string
  readonly source: readonly { readonly line: number; readonly text: string }[]
}

const AROUND = 3
const MAX_OWN_FRAMES = 5
const MAX_FILE_BYTES = 1024 * 1024
const POSITION = /\(?((?:file:\/\/)?\/[^():]+|(?:file:\/\/\/)?[A-Za-z]:[\\/][^():]+):(\d+):\d+\)?$/
// Beside this package are those of the suite; a bundle may have no address.
const SUITE = import.meta.url ? fileURLToPath(new URL('../../', import.meta.url)) : undefined
const CODE = /\.[cm]?[jt]sx?$/

/** The frames in files below `root` that are no dependency's, with their source. */
export async function ownFrames(frames: readonly string[], root: string): Promise<OwnFrame[]> {
  const found: OwnFrame[] = []
  for (const text of frames) {
    if (found.length === MAX_OWN_FRAMES) break
    const [, position = '', line = ''] = POSITION.exec(text) ?? []
    const frame = position === '' ? undefined : await frameOf(position, Number(line), text, root)
    if (frame) found.push(frame)
  }
  return found
}

async function frameOf(position: string, line: number, text: string, root: string): Promise<OwnFrame | undefined> {
  try {
    const path = await realpath(position.startsWith('file:') ? fileURLToPath(position) : position)
    const file = relative(await realpath(root), path)
    const folders = file.split(sep)
    // A stack is text: only code of the application is read, whatever it says.
    const isForeign = folders.some((folder) => folder === '..' || folder === 'node_modules' || folder.startsWith('.'))
    const isSuite = SUITE !== undefined && path.startsWith(SUITE) && folders.includes('src')
    if (isForeign || isSuite || !CODE.test(file) || (await stat(path)).size > MAX_FILE_BYTES) return undefined
    const lines = (await readFile(path, 'utf8')).split('\n')
    const from = Math.max(line - AROUND - 1, 0)
    const source = lines.slice(from, line + AROUND).map((text, index) => ({ line: from + index + 1, text }))
    return { file, line, text, source }
  } catch {
    return undefined
  }
}
