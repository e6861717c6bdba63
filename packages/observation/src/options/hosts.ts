import * as v from 'valibot'

/** Hosts that an option names: a string stands for the host and its subdomains. */
export type Hosts = (string | RegExp)[]

const HOSTS_RULE = 'a list of host names and regular expressions'

export const hostsSchema = v.optional(v.array(v.union([v.string(), v.instance(RegExp)], HOSTS_RULE), HOSTS_RULE))

/** Makes the test whether a host, in lower case, is one of these. */
export function hostMatcher(hosts: Hosts): (host: string) => boolean {
  const patterns = hosts.map((host) => (typeof host === 'string' ? host.toLowerCase() : host))
  return (host) =>
    patterns.some((pattern) =>
      typeof pattern === 'string' ? host === pattern || host.endsWith(`.${pattern}`) : host.search(pattern) !== -1
    )
}
