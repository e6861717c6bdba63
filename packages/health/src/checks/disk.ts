import { statfs } from 'node:fs/promises'
import type { Check } from '../check.ts'
import { shareCall } from './shared-call.ts'

/** Options of the check of a disk. */
export interface DiskOptions {
  /** Less free space than this is a failure, in bytes. @default 100000000 */
  minFreeBytes?: number
}

/** Healthy while the file system at `path` has enough free space. Details: `free_bytes` and `utilization`. */
export function disk(path: string, { minFreeBytes = 100_000_000 }: DiskOptions = {}): Check {
  // On a network file system that hangs, each call would block a thread of libuv's pool.
  const measure = shareCall(() => statfs(path))
  return async () => {
    const { bsize, blocks, bavail } = await measure()
    const free = bavail * bsize
    if (free < minFreeBytes) throw new Error(`${free} bytes are free, fewer than ${minFreeBytes}`)
    return { free_bytes: free, utilization: `${Math.round((1 - bavail / Math.max(blocks, 1)) * 100)}%` }
  }
}
