import { fieldOf } from './api-copies.ts'

/** A copy of a database client that Node has loaded by `require`, which an `import` of one does too. */
export interface ClientCopy {
  name: string
  /** The package that its calls are made in. */
  module: string
  version: string
  /** Whether it publishes its calls on channels. */
  hasChannels: boolean
}

interface Client {
  name: string
  module: string
  /** The file that is loaded where the version has channels. */
  channels?: string
}

const CLIENTS: readonly Client[] = [
  { name: 'pg', module: 'pg' },
  { name: 'ioredis', module: 'ioredis', channels: 'built/tracing.js' },
  { name: 'redis', module: '@redis/client', channels: 'dist/lib/client/tracing.js' },
  { name: 'mysql2', module: 'mysql2', channels: 'lib/tracing.js' }
]

/** @param paths the files that Node has loaded by `require` */
export function clientCopies(paths: readonly string[]): ClientCopy[] {
  const files = new Set(paths.map((path) => path.replaceAll('\\', '/')))
  return CLIENTS.flatMap(({ name, module, channels }) => {
    const inside = `/node_modules/${module}/`
    const folders = Array.from(files, (file) => file.slice(0, file.lastIndexOf(inside) + inside.length))
    return Array.from(new Set(folders.filter((folder) => folder.endsWith(inside))), (folder) => ({
      name,
      module,
      version: fieldOf(folder, 'version'),
      hasChannels: channels !== undefined && files.has(folder + channels)
    }))
  })
}
