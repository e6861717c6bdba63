import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** In PEM form. */
export interface Certificate {
  key: string
  cert: string
  /** Where `cert` is. */
  file: string
}

let folder: string | undefined

function createFolder(): string {
  const created = mkdtempSync(join(tmpdir(), 'certificates-'))
  process.once('exit', () => rmSync(created, { recursive: true }))
  return created
}

/** A certificate for localhost that nobody else has signed. Needs the program `openssl`. */
export function selfSigned(): Certificate {
  folder ??= createFolder()
  const name = randomUUID()
  const [key, file] = [join(folder, `${name}.key`), join(folder, `${name}.pem`)]
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  execFileSync('openssl', ['req', '-x509', ...kind, ...names, '-keyout', key, '-out', file], { stdio: 'pipe' })
  return { key: readFileSync(key, 'utf8'), cert: readFileSync(file, 'utf8'), file }
}
