import { test } from 'tap'
import { secrets, VARIANTS } from './secrets-sent.ts'

secrets(test, Object.entries(VARIANTS).slice(1))
