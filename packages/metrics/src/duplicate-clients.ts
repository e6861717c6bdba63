import { createRequire } from 'node:module'

const CLIENT = /[\\/]node_modules[\\/]((?:@prometheus-io[\\/]client)|(?:@platformatic[\\/])?prom-client)[\\/]index\.js$/

/** Paths of the Prometheus clients that this process has loaded beside ours, whose metrics `/metrics` does not show. */
export function findOtherClients(): string[] {
  const require = createRequire(import.meta.url)
  const own = require.resolve('@prometheus-io/client')
  return Object.keys(require.cache).filter((path) => CLIENT.test(path) && path !== own)
}
