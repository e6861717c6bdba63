import type { PaymentsOptions } from './app.ts'

export interface Settings extends PaymentsOptions {
  host: string
  port: number
}

/** A setting that only the operator can put right: its message is one sentence with variable, value and fix. */
export class SettingError extends Error {
  override name = 'SettingError'
}

/**
 * What the environment says; an empty variable counts as unset.
 * @throws SettingError
 */
export function readSettings(env: NodeJS.ProcessEnv): Settings {
  const port = Number(env.PORT || 8001)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new SettingError(`PORT must be a whole number from 0 to 65535, got "${env.PORT}": set PORT=8001.`)
  }
  const failureRate = Number(env.PAYMENTS_FAILURE_RATE || 0)
  if (!(failureRate >= 0 && failureRate <= 1)) {
    const got = env.PAYMENTS_FAILURE_RATE
    throw new SettingError(
      `PAYMENTS_FAILURE_RATE must be a number from 0 to 1, got "${got}": set PAYMENTS_FAILURE_RATE=0.1.`
    )
  }
  return { host: env.HOST || '127.0.0.1', port, failureRate }
}
