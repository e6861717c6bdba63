import { REDACTED, scrubForms } from './forms.ts'
import { isSecretParameter, nameTest, remember, squash } from './names.ts'
import { pairScrubber } from './pairs.ts'

export interface RedactOptions {
  /** Further names of secrets, added to the defaults; case and separators do not count. */
  redact?: string[]
  /**
   * Replaces the names: a field, header or query parameter keeps its value only if this lists exactly its key, or if the
   * suite itself writes it. Other text is searched for the default names not listed here. Credentials that are known by
   * their form go in any case.
   */
  allow?: string[]
}

/** The rules by which logs, traces and error events leave secrets out. */
export interface Redactor {
  /**
   * Whether a key's value is secret: `password`, `dbPassword` and `X-DB-PASSWORD` are, `token_count` is not. Case and
   * separators do not count.
   */
  isSecret(key: string): boolean
  /** The same by the names of secrets alone, for keys that no allow-list can list: it only takes names away here. */
  isSecretName(key: string): boolean
  /** What stands in the place of a secret. */
  readonly replacement: string
  /**
   * Text without secrets: `key=value`, `"key":"value"`, `key: value` of secret keys, also URL-encoded; passwords in URLs,
   * `Bearer` and `Basic` credentials, JWTs, private keys, well-known tokens. What exceeds 65,536 characters is cut.
   * Takes time linear in the length.
   */
  text(text: string): string
}

const MAX_TEXT = 65_536

/** @param ownNames keys that the suite itself writes: an allow-list does not have to list them. */
export function createRedactor({ redact = [], allow }: RedactOptions = {}, ownNames: readonly string[] = []): Redactor {
  const isNamed = remember(nameTest(redact))
  const allowed = new Set([...ownNames, ...(allow ?? [])].map(squash))
  const isAllowed = remember((key) => allowed.has(squash(key)))

  const isSecret = allow ? (key: string): boolean => !isAllowed(key) : isNamed
  const isSecretInText = allow ? (key: string): boolean => isNamed(key) && !isAllowed(key) : isNamed
  const isSecretInQuery = (key: string): boolean => isSecret(key) || (isSecretParameter(key) && !isAllowed(key))
  const scrubPairs = pairScrubber((key, inQuery) => (inQuery ? isSecretInQuery(key) : isSecretInText(key)))
  const scrub = (text: string): string => scrubPairs(scrubForms(text))

  return {
    isSecret,
    isSecretName: isSecretInText,
    replacement: REDACTED,
    text: (text) =>
      text.length <= MAX_TEXT
        ? scrub(text)
        : `${scrub(text.slice(0, MAX_TEXT))}…[${text.length - MAX_TEXT} more characters]`
  }
}
