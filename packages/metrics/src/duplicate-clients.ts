import { createRequire } from 'node:module'
import client from '@prometheus-io/client'

// All of them are CommonJS: also those that are imported are in the cache of `require`.
const CLIENT = /^.*[\\/]node_modules[\\/](?:@prometheus-io[\\/]client|(?:@platformatic[\\/])?prom-client)[\\/]/

/** Paths of the Prometheus clients that this process has loaded beside ours, whose metrics `/metrics` does not show. */
export function findOtherClients(): string[] {
  // Any path will do, and a bundle has none of its own.
  const { cache } = createRequire(process.execPath)
  const paths = new Map<string, string>()
  let own: string | undefined
  for (const [path, loaded] of Object.entries(cache)) {
    const [folder] = CLIENT.exec(path) ?? []
    if (folder === undefined) continue
    if (loaded?.exports === client) own = folder
    if (!paths.has(folder)) paths.set(folder, path)
  }
  if (own !== undefined) paths.delete(own)
  return [...paths.values()]
}
