/** A setting that only the operator can put right: its message is one sentence with variable, value and fix. */
export class SettingError extends Error {
  override name = 'SettingError'
}

/** The URL as it may be shown. */
export function withoutPassword(url: string): string {
  // The value may be no URL at all, so it is not parsed: from the first colon that is not the scheme's to the last @.
  return url.replace(/:(?!\/\/).*@/, ':***@').replace(/([?&]password=)[^&]*/i, '$1***')
}
