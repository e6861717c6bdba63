import type { OrdersOptions } from './app.ts'
import { SettingError, withoutPassword } from './setting-error.ts'

export interface Settings extends OrdersOptions {
  host: string
  port: number
}

/**
 * What the environment says; an empty variable counts as unset.
 * @throws SettingError
 */
export function readSettings(env: NodeJS.ProcessEnv): Settings {
  const port = Number(env.PORT || 8000)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new SettingError(`PORT must be a whole number from 0 to 65535, got "${env.PORT}": set PORT=8000.`)
  }
  const shutdownDelayMs = Number(env.SHUTDOWN_DELAY_MS || 5000)
  if (!(shutdownDelayMs >= 0 && shutdownDelayMs <= 60_000)) {
    throw new SettingError(
      `SHUTDOWN_DELAY_MS must be a number from 0 to 60000, got "${env.SHUTDOWN_DELAY_MS}": set SHUTDOWN_DELAY_MS=5000.`
    )
  }
  return {
    host: env.HOST || '127.0.0.1',
    port,
    databaseUrl: url(
      env,
      'DATABASE_URL',
      ['postgres', 'postgresql'],
      'set DATABASE_URL=postgres://user:password@127.0.0.1:5432/orders, or unset it for an embedded PostgreSQL'
    ),
    redisUrl: url(
      env,
      'REDIS_URL',
      ['redis', 'rediss'],
      'set REDIS_URL=redis://127.0.0.1:6379, or unset it to go without a cache'
    ),
    paymentsUrl: url(env, 'PAYMENTS_URL', ['http', 'https'], 'set PAYMENTS_URL=http://127.0.0.1:8001'),
    shutdownDelayMs
  }
}

function url(env: NodeJS.ProcessEnv, name: string, schemes: string[], fix: string): string | undefined {
  const value = env[name] || undefined
  if (value === undefined || schemes.some((scheme) => URL.parse(value)?.protocol === `${scheme}:`)) return value
  const allowed = schemes.map((scheme) => `${scheme}://`).join(' or ')
  throw new SettingError(`${name} must be a URL that begins with ${allowed}, got "${withoutPassword(value)}": ${fix}.`)
}
