import type { Test } from 'tap'

/** Sets variables for the length of a test. */
export function withEnv(t: Test, variables: Record<string, string>): void {
  Object.assign(process.env, variables)
  t.teardown(() => {
    for (const name of Object.keys(variables)) delete process.env[name]
  })
}
