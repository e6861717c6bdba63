import type { Account } from '../account.ts'
import { type Finding, fine, note } from '../finding.ts'

/** Platforms that have a proxy in front of every service, or nearly so, by a variable that they set. */
const PLATFORMS: Readonly<Record<string, string>> = {
  KUBERNETES_SERVICE_HOST: 'Kubernetes',
  ECS_CONTAINER_METADATA_URI_V4: 'Amazon ECS',
  AWS_LAMBDA_FUNCTION_NAME: 'AWS Lambda',
  K_SERVICE: 'Google Cloud Run',
  WEBSITE_SITE_NAME: 'Azure App Service',
  CONTAINER_APP_NAME: 'Azure Container Apps',
  DYNO: 'Heroku',
  FLY_APP_NAME: 'Fly.io',
  RENDER: 'Render',
  RAILWAY_ENVIRONMENT: 'Railway'
}

/** Whether callers' addresses are those of a proxy. Without a request that came through one, it can only be guessed. */
export function checkProxy({ isTrustingProxy }: Account): Finding[] {
  if (isTrustingProxy === undefined) return []
  if (isTrustingProxy) return [fine('proxy', 'trustProxy is set')]
  const [, platform] = Object.entries(PLATFORMS).find(([variable]) => process.env[variable]) ?? []
  if (platform)
    return [note('proxy', 'trust-proxy', `this is ${platform}, which has proxies, and trustProxy is not set`)]
  return [fine('proxy', 'trustProxy is not set, which is right where no proxy is in front')]
}
