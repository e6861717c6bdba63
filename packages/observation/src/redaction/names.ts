// Whole parts of a key, of one word or several: `db_password`, `sessionId`, `x-api-key`.
const NAMES = list(`
  password passwd pwd passphrase passcode secret token jwt authorization signature credential credentials
  cookie cookies session csrf xsrf otp cvv cvc ssn socialsecuritynumber cardnumber cardno creditcard
  apikey accesskey accesskeyid accountkey authkey encryptionkey functionskey masterkey privatekey secretkey sharedkey
  signingkey sshkey subscriptionkey sessid authcode codeverifier clientassertion samlresponse`)

// Too common inside other keys: only as the last part, or as the whole key.
const LAST_NAMES = list('pass sig')
const WHOLE_NAMES = list('auth bearer')

// Parameters of URLs that carry secrets, such as OAuth's and SAML's, under names that mean anything elsewhere.
const PARAMETERS = list('code state pin assertion key')

// Long enough to be recognised without a separator: `dbpassword`, `ACCESSTOKEN`, `PHPSESSID`.
const NAME_AT_END =
  /(?:password|passwd|passphrase|passcode|secret|token|cookie|credential|authorization|(?:api|access|secret|private)key|sess(?:ion)?id)s?$/

// `token_count`, `password_policy` and `session_timeout` describe a secret and are not one.
const ABOUT = list(`
  count counts limit length size type name status version algorithm provider policy consent rate bucket used usage
  ttl age at expires expiry expiration expired timeout duration ms seconds valid enabled required`)

// What is counted in tokens is read by a language model.
const QUANTITIES = list('max min total num n used remaining estimated prompt completion input output cached reasoning')

const MAX_KEY = 128
const MAX_REMEMBERED = 2_000

/** Whether a key names a secret by the defaults or by one of the names given, which match as whole parts too. */
export function nameTest(further: string[]): (key: string) => boolean {
  const names = new Set([...NAMES, ...further.map(squash).filter((name) => name !== '')])
  const anyName = new RegExp([...names, ...LAST_NAMES, ...WHOLE_NAMES].join('|'))
  const beginnings = new Set([...names].flatMap((name) => Array.from(name, (_, index) => name.slice(0, index + 1))))

  // The index of the last word of the name that begins with the word at `first`, -1 if none does. A name may be taken
  // apart: `PassWord`.
  function endOfName(words: string[], first: number): number {
    let joined = ''
    for (let index = first; index < words.length; index++) {
      joined += words[index]
      if (names.has(joined) || names.has(withoutNumber(joined))) return index
      if (!beginnings.has(joined)) break
    }
    return -1
  }

  return (key) => {
    const considered = key.slice(-MAX_KEY)
    const squashed = squash(considered)
    if (!anyName.test(squashed)) return false
    if (names.has(squashed) || WHOLE_NAMES.has(squashed)) return true
    const words = wordsOf(considered)
    const last = withoutNumber(words.at(-1) ?? '')
    if (words[0] === 'is' || words[0] === 'has') return false
    if (last === 'tokens' && words.some((word) => QUANTITIES.has(word))) return false
    if (LAST_NAMES.has(last) || NAME_AT_END.test(withoutNumber(squashed))) return true
    return words.some((_word, first) => {
      const end = endOfName(words, first)
      return end !== -1 && (end === words.length - 1 || !ABOUT.has(last))
    })
  }
}

/** Whether a query parameter carries a secret, though a field of the same name may not. */
export function isSecretParameter(key: string): boolean {
  return PARAMETERS.has(squash(key))
}

/** A key without what does not count in it: case and separators. */
export function squash(key: string): string {
  return key.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '')
}

/** Keys repeat: what one was found to be is kept, in bounded space. */
export function remember(test: (key: string) => boolean): (key: string) => boolean {
  const known = new Map<string, boolean>()
  return (key) => {
    const before = known.get(key)
    if (before !== undefined) return before
    const answer = test(key)
    if (known.size >= MAX_REMEMBERED) known.clear()
    if (key.length <= MAX_KEY) known.set(key, answer)
    return answer
  }
}

// `password2`, `cvv2`
function withoutNumber(word: string): string {
  return word.replace(/\d{1,4}$/, '')
}

function wordsOf(key: string): string[] {
  return key
    .replace(/([\p{Ll}\p{N}])(\p{Lu})/gu, '$1 $2')
    .replace(/(\p{Lu})(\p{Lu}\p{Ll})/gu, '$1 $2')
    .toLowerCase()
    .split(/[^\p{L}\p{N}]+/u)
    .filter((word) => word !== '')
}

function list(text: string): Set<string> {
  return new Set(text.trim().split(/\s+/))
}
