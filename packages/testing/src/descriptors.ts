import { readdirSync, readlinkSync } from 'node:fs'

/** The open descriptors of a process by number, each with the path of its file or the name of its socket. Needs /proc. */
export function descriptorsOf(pid: number | 'self'): Map<number, string> {
  const folder = `/proc/${pid}/fd`
  const found = new Map<number, string>()
  for (const fd of readdirSync(folder)) {
    try {
      found.set(Number(fd), readlinkSync(`${folder}/${fd}`))
    } catch {
      // Closed since the folder was read, as the descriptor that has read it.
    }
  }
  return found
}
