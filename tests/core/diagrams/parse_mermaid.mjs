// Reads a JSON list of texts on stdin and prints, as a JSON list, what Mermaid says against each.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const modules = process.argv[2]
const { JSDOM } = createRequire(join(modules, 'here.js'))('jsdom')
globalThis.window = new JSDOM('').window
globalThis.document = globalThis.window.document
const entrance = join(modules, 'mermaid', 'dist', 'mermaid.esm.min.mjs')
const { default: mermaid } = await import(pathToFileURL(entrance))

const said = []
for (const text of JSON.parse(readFileSync(0, 'utf8'))) {
  try {
    const { diagramType } = await mermaid.parse(text)
    said.push(diagramType === 'stateDiagram' ? '' : `it is a ${diagramType}`)
  } catch (error) {
    said.push(String(error))
  }
}
console.log(JSON.stringify(said))
process.exit(0)
