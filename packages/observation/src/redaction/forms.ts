/** What stands in the place of a secret. */
export const REDACTED = '[redacted]'

// All expressions are linear: what follows a repetition either cannot fail or is reached after a bounded number of steps.
// The hints only decide whether to look closer; they are chosen for what they cost on ordinary text.
const FIRST_HINT = /eyJ|---|AIz|[KS]IA[A-Z0-9]{8}|[a-zG19][-_.][\w-]{8}/
const FORM_HINT = /eyJ|---|AIz|[KS]IA|SG\.|hvs\.|29\.|[a-z1][-_][\w-]{8}/
const SCHEME_HINT = /arer|ARER|asic|ASIC/

const PRIVATE_KEY = /-----BEGIN[^-]{0,60}PRIVATE[^-]{0,60}-----[\s\S]*?(?:-----END[^-]{0,60}-----|$)/g
const JWT = /eyJ[\w-]*(?:\.[\w-]+)*/g
const TOKEN_FORMS = [
  /[rs]k_(?:live|test)_[A-Za-z0-9]{8,}/,
  /whsec_[\w+/=]{16,}/,
  /gh[opusr]_[A-Za-z0-9]{20,}/,
  /github_pat_\w{20,}/,
  /glpat-[\w-]{16,}/,
  /xox[a-z]-[\w-]{8,}/,
  /xapp-[\w-]{8,}/,
  /A[KS]IA[A-Z0-9]{16}/,
  /AIza[\w-]{30,}/,
  /ya29\.[\w-]{20,}/,
  /npm_[A-Za-z0-9]{30,}/,
  /pypi-[\w-]{50,}/,
  /hf_[A-Za-z0-9]{30,}/,
  /sk-[\w-]{20,}/,
  /SG\.[\w-]{16,}\.[\w-]{16,}/,
  /hvs\.[\w-]{20,}/,
  /shp[a-z]{2}_[A-Fa-f0-9]{32}/,
  /dop_v1_[a-f0-9]{32,}/
]
// At the start of a word, or behind a URL-encoded character.
const TOKEN = new RegExp(
  `(?:(?<![\\w-])|(?<=%[0-9A-Fa-f]{2}))(?:${TOKEN_FORMS.map(({ source }) => source).join('|')})`,
  'g'
)
const SCHEME = /((?:(?:[Bb]earer|BEARER|[Bb]asic|BASIC)(?:\s|%20|\+)+)+)([\w.~+/-]+(?:=|%3[Dd])*)/g

const SHORTEST = 'Bearer x'.length

/** Takes out the credentials that are known by their form. */
export function scrubForms(text: string): string {
  if (text.length < SHORTEST) return text
  const clean =
    FIRST_HINT.test(text) && FORM_HINT.test(text)
      ? text.replace(PRIVATE_KEY, REDACTED).replace(JWT, scrubJwt).replace(TOKEN, REDACTED)
      : text
  return SCHEME_HINT.test(clean) ? clean.replace(SCHEME, scrubScheme) : clean
}

// A JWT that was cut may lack its signature.
function scrubJwt(match: string): string {
  return /^[\w-]{10,}\.../.test(match) ? REDACTED : match
}

// "Bearer of news" and "Basic authentication" are prose.
function scrubScheme(match: string, scheme: string, value: string): string {
  const isCredential = /bearer/i.test(scheme) && /^(?:.{16}|.*[\d._~+/=-].|.*[a-z][A-Z])/.test(value)
  return isCredential || isUserAndPassword(value) ? scheme + REDACTED : match
}

function isUserAndPassword(base64: string): boolean {
  const decoded = Buffer.from(base64.replace(/%3d/gi, '='), 'base64').toString('latin1')
  return /^[^\p{Cc}:]*:\P{Cc}*$/u.test(decoded)
}
