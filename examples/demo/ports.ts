import { once } from 'node:events'
import { createServer } from 'node:net'

/** A port that only the user can put right: its message is one sentence. */
export class PortError extends Error {
  override name = 'PortError'
}

export const HOST = '127.0.0.1'

/** The port that the variable names, else `fallback`; refused unless it is free. */
export async function freePort(variable: string, fallback: number): Promise<number> {
  const given = process.env[variable] || String(fallback)
  const port = Number(given)
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    const rule = 'must be a whole number from 1 to 65535'
    throw new PortError(`${variable} ${rule}, got "${given}": set ${variable}=${fallback}.`)
  }
  const probe = createServer().listen(port, HOST)
  try {
    await once(probe, 'listening')
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    const reason = code === 'EADDRINUSE' ? 'is already in use' : `cannot be used (${code})`
    throw new PortError(`Port ${port} ${reason}: set another one, such as ${variable}=${fallback + 10_000}.`)
  }
  probe.close()
  await once(probe, 'close')
  return port
}
