import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A disk of 1 MiB. */
export interface Disk {
  folder: string
  unmount(): void
}

export function mountDisk(): Disk {
  const folder = mkdtempSync(join(tmpdir(), 'disk-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder], { stdio: 'pipe' })
  } catch (error) {
    rmdirSync(folder)
    throw error
  }
  return {
    folder,
    unmount() {
      // Lazily: something that indexes files may have one open at this very moment.
      execFileSync('umount', ['--lazy', folder])
      rmdirSync(folder)
    }
  }
}

/** Why tests with a disk of their own are skipped here. */
export const noDisks = refusal()

function refusal(): string | false {
  try {
    mountDisk().unmount()
    return false
  } catch (error) {
    return `tmpfs cannot be mounted: ${error}`
  }
}
