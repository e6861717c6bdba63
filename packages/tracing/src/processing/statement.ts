// A span needs the shape of a statement, not all of a bulk insert.
const MAX_LENGTH = 4_096

const TOKEN = new RegExp(
  [
    /(?<gap>\s+|--[^\n\r]*)/,
    /(?<comment>\/\*)/,
    /(?<word>[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*)/,
    /(?<parameter>\$\d+)/,
    /(?<dollar>\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$)/,
    /(?<number>\.?\d[\w.]*)/,
    /(?<quote>['"`])/,
    /(?<other>[\s\S])/
  ]
    .map(({ source }) => source)
    .join('|'),
  'y'
)

/**
 * An SQL statement with `?` in the place of its strings and numbers and without comments; placeholders such as `$1` and
 * quoted names stay. Takes time linear in the length, of which it looks at the first 4,096 characters, and never throws.
 * What cannot be told apart from a value is left out, with all that follows.
 * @param isMySql `"…"` is a value there, and `#` begins a comment.
 */
export function withoutValues(sql: string, isMySql = false): string {
  const whole = sql.length <= MAX_LENGTH
  const { shape, complete } = shapeOf(whole ? sql : sql.slice(0, MAX_LENGTH), isMySql)
  const trimmed = shape.trim().replace(/\bIN \(\?(?:, ?\?)+\)/gi, (list) => `${list.slice(0, 2)} (?)`)
  return whole && complete ? trimmed : `${trimmed}…`
}

/** Commands of Redis, one a line, with `?` in the place of their arguments, as the suite's own spans have them. */
export function withoutArguments(commands: string): string {
  return commands.slice(0, MAX_LENGTH).replace(/^([ \t]*\S+)[ \t]+\S.*$/gm, '$1 ?')
}

function shapeOf(sql: string, isMySql: boolean): { shape: string; complete: boolean } {
  let shape = ''
  let position = 0
  let word = ''
  while (position < sql.length) {
    TOKEN.lastIndex = position
    const { gap, comment, dollar, number, quote, ...kept } = TOKEN.exec(sql)?.groups ?? {}
    const before = word
    word = kept.word ?? ''
    let end = TOKEN.lastIndex
    if (gap ?? comment) {
      if (comment) end = endOfComment(sql, end)
      if (!shape.endsWith(' ')) shape += ' '
    } else if (number) {
      shape += '?'
    } else if (dollar) {
      end = sql.indexOf(dollar, end) + dollar.length
      if (end < dollar.length) return { shape: `${shape}?`, complete: false }
      shape += '?'
    } else if (quote) {
      const start = position
      const isValue = quote === "'" || (isMySql && quote === '"')
      end = endOfQuoted(sql, end, quote, isValue, /^e$/i.test(before))
      if (end < 0) return { shape: `${shape}?`, complete: false }
      if (!isValue) shape += sql.slice(start, end)
      // What is written as E'…', B'…', X'…' or N'…' is one value.
      else shape = `${/^[ebxn]$/i.test(before) ? shape.slice(0, -1) : shape}?`
    } else if (isMySql && kept.other === '#') {
      end = endOfLine(sql, end)
    } else {
      shape += sql.slice(position, end)
    }
    position = end
  }
  return { shape, complete: true }
}

/** Comments nest in PostgreSQL; elsewhere more is left out than need be. */
function endOfComment(sql: string, from: number): number {
  let depth = 1
  for (const { 0: mark, index } of sql.slice(from).matchAll(/\/\*|\*\//g)) {
    depth += mark === '/*' ? 1 : -1
    if (depth === 0) return from + index + mark.length
  }
  return sql.length
}

function endOfLine(sql: string, from: number): number {
  const end = sql.indexOf('\n', from)
  return end === -1 ? sql.length : end
}

/** The position after the closing quote, or -1 where there is none or it depends on a setting which one that is. */
function endOfQuoted(sql: string, from: number, quote: string, isValue: boolean, hasEscapes: boolean): number {
  for (let position = from; position < sql.length; position++) {
    if (hasEscapes && sql[position] === '\\') position++
    else if (sql[position] === quote) {
      // 'a\' ends here with standard_conforming_strings, and goes on without.
      if (isValue && !hasEscapes && sql[position - 1] === '\\') return -1
      if (sql[position + 1] !== quote) return position + 1
      position++
    }
  }
  return -1
}
