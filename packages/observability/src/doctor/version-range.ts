type Version = readonly [major: number, minor: number, patch: number]

const COMPARATOR = /^(>=|<=|>|<|=|\^|~)?v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:[-+].*)?$/

/**
 * Whether a version is in a range of package.json, pre-releases taken as what they precede; `undefined` for a range of another
 * form, such as `workspace:^`.
 * @see https://docs.npmjs.com/cli/v11/configuring-npm/package-json#dependencies
 */
export function isInRange(version: string, range: string): boolean | undefined {
  const given = versionOf(version)
  if (!given) return undefined
  const answers = range.split('||').map((alternative) => isInAll(given, alternative.trim()))
  if (answers.includes(true)) return true
  return answers.includes(undefined) ? undefined : false
}

function isInAll(version: Version, comparators: string): boolean | undefined {
  const answers = comparators
    .replace(/([<>=~^])\s+/g, '$1')
    .split(/\s+/)
    .map((comparator) => isInOne(version, comparator))
  return answers.includes(undefined) ? undefined : !answers.includes(false)
}

function isInOne(version: Version, comparator: string): boolean | undefined {
  if (comparator === '*' || comparator === '') return true
  const [, operator = '', major, minor, patch] = COMPARATOR.exec(comparator) ?? []
  if (major === undefined) return undefined
  const least: Version = [Number(major), Number(minor ?? 0), Number(patch ?? 0)]
  const order = compare(version, least)
  switch (operator) {
    case '>=':
      return order >= 0
    case '>':
      return order > 0
    case '<':
      return order < 0
    case '<=':
      return order <= 0
    case '^':
      return order >= 0 && compare(version, caretEnd(least)) < 0
    case '~':
      return (
        order >= 0 && compare(version, minor === undefined ? [least[0] + 1, 0, 0] : [least[0], least[1] + 1, 0]) < 0
      )
    default:
      return (
        version[0] === least[0] &&
        (minor === undefined || version[1] === least[1]) &&
        (patch === undefined || version[2] === least[2])
      )
  }
}

function caretEnd([major, minor, patch]: Version): Version {
  if (major > 0) return [major + 1, 0, 0]
  return minor > 0 ? [0, minor + 1, 0] : [0, 0, patch + 1]
}

function versionOf(text: string): Version | undefined {
  const [, , major, minor = '0', patch = '0'] = COMPARATOR.exec(text) ?? []
  return major === undefined ? undefined : [Number(major), Number(minor), Number(patch)]
}

function compare(one: Version, other: Version): number {
  const index = one.findIndex((part, at) => part !== other[at])
  return index === -1 ? 0 : (one[index] ?? 0) - (other[index] ?? 0)
}
