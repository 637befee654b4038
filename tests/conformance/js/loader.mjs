// Runs messages under AO's own loader, each on a fresh instance with the memory that the last good
// one left; what each gave on the last line of standard output.
import { createRequire } from 'node:module'
import fs from 'node:fs'

const plan = JSON.parse(fs.readFileSync(0, 'utf8'))
const load = createRequire(plan.modules + '/')('@permaweb/ao-loader')
const wasm = fs.readFileSync(plan.wasm)
const answers = []
let memory = null
for (const message of plan.messages) {
  try {
    const handle = await load(wasm, { format: plan.format })
    const { Memory, ...result } = await handle(memory, message, plan.env)
    if (!result.Error) memory = Memory
    answers.push(JSON.parse(JSON.stringify(result)))
  } catch (error) {
    answers.push({ thrown: String(error?.message ?? error) })
  }
}
fs.writeSync(1, '\n' + JSON.stringify(answers) + '\n')
process.exit(0)
