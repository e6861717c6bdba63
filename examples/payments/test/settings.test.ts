import { test } from 'tap'
import { readSettings } from '../settings.ts'

const REFUSED: [name: string, value: string, message: string][] = [
  ['PORT', 'x', 'PORT must be a whole number from 0 to 65535, got "x": set PORT=8001.'],
  [
    'PAYMENTS_FAILURE_RATE',
    '2',
    'PAYMENTS_FAILURE_RATE must be a number from 0 to 1, got "2": set PAYMENTS_FAILURE_RATE=0.1.'
  ]
]
for (const [name, value, message] of REFUSED) {
  test(`refuses ${name}=${value} in one sentence`, async (t) => {
    t.throws(() => readSettings({ [name]: value }), { name: 'SettingError', message })
  })
}

test('takes an empty variable for an unset one', async (t) => {
  t.same(readSettings({ PORT: '', PAYMENTS_FAILURE_RATE: '' }), { host: '127.0.0.1', port: 8001, failureRate: 0 })
})
