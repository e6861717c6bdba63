import { test } from 'tap'
import { arbitraryCalls } from './arbitrary-calls.ts'

arbitraryCalls(test, 10_000)
