import { spawnSync } from 'node:child_process'

/** Why a fault cannot be played that needs the program, else `false`. */
export function isMissing(program: string, ...args: string[]): string | false {
  return spawnSync(program, args).error !== undefined && `the program ${program} is missing`
}
