import { globSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'
import { SECTIONS } from '../../observation/src/docs.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const SOURCES = globSync('packages/*/src/**/*.ts', { cwd: ROOT })
  .filter((path) => !/^packages\/testing\/|^packages\/observation\/src\/docs\.ts$/.test(path))
  .sort()
  .map((path) => readFileSync(`${ROOT}${path}`, 'utf8'))
const PAGE = readFileSync(`${ROOT}docs/troubleshooting.md`, 'utf8')
const ANCHORS = Array.from(PAGE.matchAll(/^## (.*)$/gm), ([, title = '']) => anchorOf(title))

// Canonical lines, which are no warnings, and lines whose fields have been given their address elsewhere.
const OTHER_LINES = [
  "root.warn(fields, 'request completed')",
  'log[level](canonicalFields(observation, outcome), message)',
  'bind(root, observation)[level](all, ',
  'queueMicrotask(() => latest()?.warn(fields, ',
  'log: { warn: (fields, message) => log.warn(fields, '
]

const OTHER_ERRORS = [
  // The reasons of failing checks, callbacks and writes, which stand in a line that has its address.
  'no answer within',
  'bytes are free',
  '(`answered ',
  'not connected',
  'the onClose hooks had not ended',
  'thrownText(error)',
  'bytes were written',
  'it is not a regular file',
  'a label is not a text',
  'not collected in',
  '(`the pool ',
  '(`the metric ',
  '(`the labels [',
  'must return a value, got a promise',
  'size, idle and waiting must be numbers',
  'collect must give numbers',
  'must return a string, got a value',
  'isThenable(answer)',
  'no fields',
  // Of requests and jobs, for their callers and their signals.
  'The service is under pressure',
  'aborted: the service is shutting down',
  "typeof reason === 'string' ? reason",
  // Of the command line, above its usage.
  'a command is missing',
  'one file at most',
  '--timeout must be',
  'there is no file'
]

/** The anchor that GitHub gives a heading. */
function anchorOf(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^\w -]/g, '')
    .replaceAll(' ', '-')
}

/** The lines of code in which something is found. */
function linesWith(pattern: RegExp): string[] {
  const lines = SOURCES.flatMap((source) =>
    Array.from(source.matchAll(pattern), ({ index }) => {
      const begin = source.lastIndexOf('\n', index) + 1
      return source.slice(begin, source.indexOf('\n', index)).trim()
    })
  )
  return lines.filter((line) => !/^(?:\*|\/\/)/.test(line))
}

/** Those that none of the known ones stands in, and the known ones that stand nowhere. */
function differences(lines: readonly string[], known: readonly string[]): string[] {
  const isKnown = (line: string): boolean => known.some((text) => line.includes(text))
  return [
    ...lines.filter((line) => !isKnown(line)),
    ...known.filter((text) => !lines.some((line) => line.includes(text)))
  ]
}

for (const section of SECTIONS) {
  test(`${section} is a section of the page, and something leads to it`, async (t) => {
    t.ok(ANCHORS.includes(section))
    t.ok(SOURCES.some((source) => source.includes(`'${section}'`)))
  })
}

test('the page leads to no section that it has not', async (t) => {
  const links = Array.from(PAGE.matchAll(/\]\(#([^)]*)\)/g), ([, anchor = '']) => anchor)
  t.same(
    links.filter((anchor) => !ANCHORS.includes(anchor)),
    []
  )
})

test('the address of the page stands once', async (t) => {
  t.same(linesWith(/docs\/troubleshooting\.md/g), [])
})

test('each warning and error that is logged has the address of its section', async (t) => {
  const lines = linesWith(/(?<!console)(?:\.(?:warn|error|fatal)|\[level\]|'warn'\])\((?!\s*withDocs\()/g)
  t.same(differences(lines, OTHER_LINES), [])
})

test('each error that is thrown has the address of its section', async (t) => {
  t.same(differences(linesWith(/(?<!documented\(\s*)new (?:[A-Z][a-z]+)?Error\(/g), OTHER_ERRORS), [])
})
