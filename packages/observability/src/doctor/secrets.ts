import { createRedactor } from '@fastify-observability/observation/internal'

const HEADERS = /^OTEL_EXPORTER_OTLP_(?:\w+_)?HEADERS$/
const USER_IN_URL = /\/\/[^/@\s]*@/g
const redactor = createRedactor()
// Shorter ones stand in too many words.
const LEAST_CHARACTERS = 6

/** Makes the function that takes the secrets of these variables, and what looks like one, out of a text. */
export function hidingSecrets(variables: NodeJS.ProcessEnv): (text: string) => string {
  const secrets = Object.entries(variables)
    .flatMap(([name, value = '']) => secretsIn(name, value))
    .filter((secret) => secret.length >= LEAST_CHARACTERS)
    .sort((one, other) => other.length - one.length)
  return (text) => {
    const without = secrets.reduce((rest, secret) => rest.replaceAll(secret, redactor.replacement), text)
    return redactor.text(without).replace(USER_IN_URL, `//${redactor.replacement}@`)
  }
}

function secretsIn(name: string, value: string): string[] {
  if (HEADERS.test(name)) {
    return value.split(',').flatMap((pair) => {
      const secret = pair.slice(pair.indexOf('=') + 1).trim()
      // After a scheme such as `Bearer`.
      return [secret, decoded(secret), secret.split(/ |%20/).at(-1) ?? '']
    })
  }
  if (redactor.isSecretName(name)) return [value]
  const url = value.includes('@') ? parsed(value) : undefined
  return url ? [url.username, url.password, decoded(url.password)] : []
}

function parsed(text: string): URL | undefined {
  return URL.parse(text) ?? undefined
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
