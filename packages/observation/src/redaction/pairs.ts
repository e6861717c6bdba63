import { REDACTED } from './forms.ts'

/** Whether a key found in text names a secret; `inQuery` where it is a parameter of a URL. */
type KeyTest = (key: string, inQuery: boolean) => boolean

interface Span {
  start: number
  end: number
}

interface Key extends Span {
  name: string
  /** Whether a quote or bracket stands behind it. */
  closed: boolean
}

const MAX_KEY = 64
// Each can reach to the end of the text; after so many it is redacted to there.
const MAX_OVERLAPS = 16
const KEY_SIGNS = signs('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.$@[%')
const CLOSING_SIGNS = signs('"\'`]\\')
const SEPARATOR = /[=:]|%(?:25)*3[AaDd]|\\u003[AaDd]/g
// How JSON may write the signs of a URL, so that they mean nothing in HTML.
const ESCAPED_SEPARATOR = '\\u003'
const ESCAPES = /\\+u00([0-9a-f]{2})/gi

const QUOTE = /\\*["'`]/y
const GAP = /[=:>]{0,2}[ \t]*/y
const WIDE_GAP = /[=:>]{0,2}\s*/y
const NOTHING = /(?:null|undefined|true|false|\[redacted\])(?![\w-])/iy
const AUTHORITY = /[^\s/?#"'`<>\\]*/y
const UP_TO_512 = /[^\s"'`<>\\]{0,512}/y
const LINE = /(?:[^\r\n\\]|\\(?![rn]))*/y
const AUTH_SCHEME = /(?:(?:Bearer|Basic|Digest|Token|ApiKey|Negotiate)[ \t]+)?/iy
const AUTH_PARAMETERS = /[A-Za-z][\w-]*[ \t]+[\w-]+=[^\s,]*,/y
const AUTH_ANY = /(?:[A-Za-z][\w-]*[ \t]+)?(?:\[redacted\]|[^\s;,"'`)}\]])*/y
const COOKIES = /[^\s;,"'`]*(?:;[ \t]*[^\s;:=,"'`]+(?:=[^\s;,"'`]*)?(?=[\s;,"'`]|$))*/y
// Punctuation belongs to a value that goes on behind it, unless with the next key.
const VALUE =
  /(?:\[redacted\]|[^\s&;,"'`<>()[\]{}|\\]|[&;,"'`<>()[\]{}|\\](?=[^\s&;,"'`<>()[\]{}|\\])(?!(?<=\\)u0026|[\w.%-]{0,64}[=:]))*/y

/** Makes the search for the values of secret keys, in the notations of URLs, JSON, headers, code, markup and commands. */
export function pairScrubber(isSecret: KeyTest): (text: string) => string {
  const scrubMarkup = (match: string, opening: string, key: string): string =>
    isSecret(key, false) ? opening + REDACTED : match

  return (text) => {
    if (!HINT.test(text)) return text
    const clean = MARKUP_HINT.test(text) ? text.replace(ELEMENT, scrubMarkup).replace(FLAG, scrubMarkup) : text
    return scrubPairs(clean, isSecret)
  }
}

const HINT = /[=:%<]|--|\\u003/
const MARKUP_HINT = /<\/|--[A-Za-z]/
const ELEMENT = /(<([A-Za-z][\w:.-]{0,63})(?:\s[^<>]{0,256})?>(?:<!\[CDATA\[)?)[^<]+/g
const FLAG = /(--([A-Za-z][\w-]{0,63})[ \t]+)(?:"[^"]*"?|'[^']*'?|[^\s\-"'][^\s"']*)/g

function scrubPairs(text: string, isSecret: KeyTest): string {
  let clean = ''
  let copied = 0
  let secret: Span | undefined
  let overlaps = 0
  let from = 0
  SEPARATOR.lastIndex = 0
  while (SEPARATOR.test(text)) {
    const end = SEPARATOR.lastIndex
    const found = secretBehind(text, from, end, isSecret)
    from = end
    SEPARATOR.lastIndex = end
    if (found === undefined || found.start === found.end) continue
    // Where a quote is never closed, the next key stands in what looks like the value of the first.
    if (secret !== undefined && found.start <= secret.end) {
      secret.end = ++overlaps > MAX_OVERLAPS ? text.length : Math.max(secret.end, found.end)
      if (secret.end === text.length) break
      continue
    }
    if (secret !== undefined) {
      clean += text.slice(copied, secret.start) + REDACTED
      copied = secret.end
    }
    secret = found
  }
  return secret === undefined ? text : clean + text.slice(copied, secret.start) + REDACTED + text.slice(secret.end)
}

/** The secret behind the separator that ends at `end`, if there is one; its key does not begin before `from`. */
function secretBehind(text: string, from: number, end: number, isSecret: KeyTest): Span | undefined {
  const isPlain = text[end - 1] === '=' || text[end - 1] === ':'
  const isEscaped = !isPlain && text.startsWith(ESCAPED_SEPARATOR, end - 6)
  const start = isPlain ? end - 1 : text.lastIndexOf(isEscaped ? '\\' : '%', end - 1)
  // How many times the pair is URL-encoded: `=` is 0, `%3D` is 1, `%253D` is 2.
  const level = isEscaped ? 0 : Math.min((end - start - 1) / 2, 9)
  const userInfo = level === 0 ? plainUserInfo(text, end) : encodedUserInfo(text, end, level)
  if (userInfo) return userInfo
  const key = keyBefore(text, from, start)
  if (!key || !isSecretKey(text, key, isSecret)) return undefined
  return level === 0 ? plainValue(text, end, key) : encodedValue(text, end, level, isHeader(key))
}

function keyBefore(text: string, from: number, separator: number): Key | undefined {
  let end = separator
  while (end > from && isBlank(text.charCodeAt(end - 1))) end--
  const outer = end
  while (end > from && isClosing(text.charCodeAt(end - 1))) end--
  let start = end
  while (start > from && end - start < MAX_KEY && isKeySign(text.charCodeAt(start - 1))) start--
  // Not the line and column of `file.ts:10:5`.
  let letter = start
  while (letter < end && !isLetter(text.charCodeAt(letter))) letter++
  return letter < end ? { start, end, name: text.slice(start, end), closed: outer > end } : undefined
}

function signs(characters: string): Uint8Array {
  const table = new Uint8Array(128)
  for (const character of characters) table[character.charCodeAt(0)] = 1
  return table
}

function isKeySign(code: number): boolean {
  return code > 127 || KEY_SIGNS[code] === 1
}

function isLetter(code: number): boolean {
  return (code >= 97 && code <= 122) || (code >= 65 && code <= 90) || code > 127
}

function isWord(code: number): boolean {
  return isLetter(code) || (code >= 48 && code <= 57)
}

function isBlank(code: number): boolean {
  return code === 32 || code === 9
}

function isClosing(code: number): boolean {
  return code < 128 && CLOSING_SIGNS[code] === 1
}

function isSecretKey(text: string, { start, name }: Key, isSecret: KeyTest): boolean {
  const before = text[start - 1]
  if (name.includes('%')) return isSecretDecoded(decode(name), isQuerySign(before), isSecret)
  // `pass\u0077ord`, and `\u0026code` as JSON may have it
  if (before === '\\' && /^u00[0-9a-f]{2}/i.test(name)) {
    const escaped = text.slice(Math.max(0, start - MAX_KEY), start) + name
    return isSecretDecoded(escaped.replace(ESCAPES, characterOf), false, isSecret)
  }
  if (isSecret(name, isQuerySign(before) || (before === ';' && ENTITY.test(text.slice(start - 6, start))))) return true
  // "api key: …", "card number: …", `api+key=…`
  if ((before !== ' ' && before !== '+') || !/^(?:key|id|number|no|code)$/i.test(name)) return false
  const first = /[A-Za-z]{1,32}$/.exec(text.slice(Math.max(0, start - 33), start - 1))
  return first !== null && isSecret(first[0] + name, false)
}

/** Whether the last of what a decoded text names is secret; `inQuery` where the whole of it stands in a URL. */
function isSecretDecoded(decoded: string, inQuery: boolean, isSecret: KeyTest): boolean {
  const [, delimiter, key = ''] = /([&?]?)([^&?{}()<>/,;:=#"'\\\n]*)["'\]\\\s]*$/.exec(decoded) ?? []
  return isSecret(key, delimiter !== '' || (key.length === decoded.length && inQuery))
}

// An ampersand as HTML has it.
const ENTITY = /&(?:amp|#38|#x26);$/i

function isQuerySign(sign: string | undefined): boolean {
  return sign === '?' || sign === '&'
}

function decode(name: string): string {
  return name.replace(/%(?:25)*([0-9a-f]{2})/gi, characterOf)
}

function characterOf(_match: string, hex: string): string {
  return String.fromCharCode(Number.parseInt(hex, 16))
}

function isHeader({ name }: Key): boolean {
  return /(?:authorization|cookies?)$/i.test(name)
}

function plainUserInfo(text: string, from: number): Span | undefined {
  if (text[from] !== '/' || text[from + 1] !== '/') return undefined
  const start = from + 2
  let authority = text.slice(start, endOf(AUTHORITY, text, start))
  // Where a port should be, a password begins that has a `/`, `?` or `#` in it.
  if (/^[^@:[]*:\d*[^\d@][^@]*$/.test(authority)) authority = text.slice(start, endOf(UP_TO_512, text, start))
  return beforeAt(start, authority, '@', ':')
}

function encodedUserInfo(text: string, from: number, level: number): Span | undefined {
  const { slashes, authority } = notation(level)
  const start = endOf(slashes, text, from)
  if (start === from) return undefined
  const percent = `%${'25'.repeat(level - 1)}`
  return beforeAt(start, text.slice(start, endOf(authority, text, start)).toUpperCase(), `${percent}40`, `${percent}3A`)
}

function beforeAt(start: number, authority: string, at: string, colon: string): Span | undefined {
  const userInfo = authority.slice(0, Math.max(0, authority.lastIndexOf(at)))
  return userInfo.includes(colon) ? { start, end: start + userInfo.length } : undefined
}

function plainValue(text: string, from: number, key: Key): Span {
  const start = endOf(key.closed ? WIDE_GAP : GAP, text, from)
  if (endOf(NOTHING, text, start) > start) return { start, end: start }
  const opened = endOf(QUOTE, text, start)
  if (opened > start) return { start: opened, end: closingQuote(text, opened, opened - start - 1) }
  if (text[start] === '{' || text[start] === '[') return { start, end: closingBracket(text, start) }
  if (isHeader(key)) return { start, end: endOfHeader(text, start, key) }
  return { start, end: endOf(VALUE, text, endOf(AUTH_SCHEME, text, start)) }
}

function endOfHeader(text: string, from: number, key: Key): number {
  const before = text[key.start - 1]
  // curl -H "authorization: …"
  if (!key.closed && (before === '"' || before === "'")) return closingQuote(text, from, 0, before)
  if (before === undefined || before === '\n' || before === '\r' || before === '\\') return endOf(LINE, text, from)
  if (isQuerySign(before)) return endOf(VALUE, text, from)
  if (/cookies?$/i.test(key.name)) return endOf(COOKIES, text, from)
  return endOf(AUTH_PARAMETERS, text, from) > from ? endOf(LINE, text, from) : endOf(AUTH_ANY, text, from)
}

/**
 * Where the quoted text ends that `slashes` backslashes and a quote opened before `from`. A quote before a word opens
 * the next one: the text was cut, or has an apostrophe.
 */
function closingQuote(text: string, from: number, slashes: number, quote = text.charAt(from - 1)): number {
  for (let at = text.indexOf(quote, from); at !== -1; at = text.indexOf(quote, at + 1)) {
    let end = at
    while (end > from && text[end - 1] === '\\') end--
    const escapes = at - end
    const isEscaped = slashes === 0 ? escapes % 2 === 1 : escapes > slashes
    if (!isEscaped && !isWord(text.charCodeAt(at + 1))) return slashes === 0 ? at : end
  }
  return text.length
}

const BRACKET = /[[\]{}"'`\\]/g

function closingBracket(text: string, from: number): number {
  let depth = 0
  BRACKET.lastIndex = from
  while (BRACKET.test(text)) {
    const end = BRACKET.lastIndex
    const sign = text[end - 1]
    if (sign === '{' || sign === '[') depth++
    else if (sign === '}' || sign === ']') depth--
    else BRACKET.lastIndex = sign === '\\' ? end + 1 : closingQuote(text, end, 0) + 1
    if (depth === 0) return end
  }
  return text.length
}

function encodedValue(text: string, from: number, level: number, isHeader: boolean): Span {
  const { gap, quote, scheme, value, line } = notation(level)
  const start = endOf(gap, text, from)
  if (endOf(NOTHING, text, start) > start) return { start, end: start }
  const opened = endOf(quote, text, start)
  if (opened === start) return { start, end: endOf(isHeader ? line : value, text, endOf(scheme, text, start)) }
  const close = text.indexOf(text.slice(start, opened), opened)
  return { start: opened, end: close === -1 ? text.length : close }
}

/** Expressions for text that is URL-encoded `level` times. */
function createNotation(level: number) {
  const percent = `%(?:25){${level - 1}}`
  const sticky = (source: string): RegExp => new RegExp(source, 'iy')
  // What is encoded more often is content; what is encoded as often or less, as listed, ends it.
  const until = (hex: string): string => `(?:[^\\s&"'\`<>%]|'(?=[\\w%])|%(?!(?:25){0,${level - 1}}(?:${hex})))*`
  return {
    slashes: sticky(`(?:${percent}2F){2}`),
    authority: sticky(until('2F|3F|23|22|27|20|26|0A|0D')),
    gap: sticky(`(?:${percent}(?:20|0A|0D|09)|[+ \\t])*`),
    quote: sticky(`(?:${percent}5C)*${percent}2[27]`),
    scheme: sticky(`(?:(?:Bearer|Basic|Digest|Token|ApiKey|Negotiate)(?:${percent}20|[+ ])+)?`),
    value: sticky(until('26|22|27|2C|7D|5D|3B|0A|0D|20|23')),
    line: sticky(until('22|0A|0D'))
  }
}

const notations = [1, 2, 3].map(createNotation)

function notation(level: number) {
  return notations[level - 1] ?? createNotation(level)
}

function endOf(sticky: RegExp, text: string, from: number): number {
  sticky.lastIndex = from
  return sticky.test(text) ? sticky.lastIndex : from
}
