/** What can be wrong, and what mends it. Each is a section of docs/doctor.md, by its name. */
export const FAULTS = {
  'node-version': 'Run the service with a Node that all packages support.',
  'package-version': 'Install a version in the range that is named.',
  'not-installed': 'Install it: the package that asks for it does not bring it.',
  'no-package': 'Run the command in the folder of the service, or name its file.',
  copies:
    'Depend on one version of it: "npm ls PACKAGE" or "pnpm why PACKAGE" names who brings each, and an override in package.json settles it.',
  bundled: 'Keep outside of the bundle what the preload has to patch: see docs/bundles.md.',
  'import-failed': 'Start the service by itself first; give the command the variables and flags that the service has.',
  'no-app':
    'Export the app, or a function that builds it, from the file: as default, `app`, `build`, `buildApp` or `createApp`.',
  'not-ready': 'Find the plugin or the import that never ends; --timeout gives a slow service more time.',
  'not-closed': 'Close in an onClose hook what the service has opened.',
  ended: 'Export the app from a file that neither ends the process nor listens by itself.',
  'not-registered': 'Register fastify-observability on the root instance, before everything else.',
  variable: 'Correct the variable, or remove it.',
  warning: 'Follow the sentence: it says what is not as it was asked for.',
  preload:
    'Start the service with `node --import fastify-observability/register`, which has to run before these packages are loaded.',
  'loaded-too-early':
    'Name fastify-observability/register first among the --import and --require flags, and import nothing of these packages before it.',
  unsupported: 'Update the package, or load it after the preload.',
  'trust-proxy':
    'Give Fastify `trustProxy`: the number of proxies in front, or their addresses. Without it client_ip and url.scheme are those of the nearest proxy.',
  nowhere: 'Set what the sentence names, where the signal is wanted.',
  'endpoint-closed': 'Start a collector there, or correct the host and the port of the endpoint.',
  'endpoint-unreachable': 'Correct the host name, or open the network between this machine and it.',
  'endpoint-silent':
    'Something accepts connections there and does not answer: look at the load balancer or the collector behind it.',
  'protocol-mixed-up':
    'Set OTEL_EXPORTER_OTLP_PROTOCOL to what the port speaks, or use the other port: collectors take gRPC on 4317 and HTTP on 4318.',
  credentials: 'Correct OTEL_EXPORTER_OTLP_HEADERS: the collector does not accept them.',
  certificate:
    'Name the authority that signed the certificate in OTEL_EXPORTER_OTLP_CERTIFICATE, and use the host name that the certificate is for.',
  'tls-mixed-up': 'Change the scheme of the endpoint: https:// for TLS, http:// for plain text.',
  'endpoint-path':
    'Correct the path. An endpoint of one signal, such as OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, is taken as it is: over HTTP it ends in /v1/traces.',
  'endpoint-refused': 'Look at the log of the collector: it received the test item, and did not take it.',
  'sentry-refused': 'Correct the DSN, or open the network between this machine and Sentry.',
  'sentry-off': 'Set SENTRY_DSN, and install @sentry/node.'
} as const

export type Fault = keyof typeof FAULTS
