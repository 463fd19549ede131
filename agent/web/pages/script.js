import { api, redraw, use } from './agent.js'
import { h } from './dom.js'
import { mesh, meshPath, ztm } from './mesh.js'
import { answerOf, button, command, line, some, state } from './parts.js'
import { Program } from './process.js'
import { t } from './words.js'

const form = { text: 'uname -a\n', with: 'sh', chosen: new Set(), label: '', results: [], running: false }
const MOST = 256 << 10 // characters of output that are shown of one endpoint
const PARALLEL = 8

const interpreters = [['sh', 'sh'], ['python3', 'Python'], ['js', 'JavaScript'], ['powershell', 'PowerShell']]

export function script() {
  const all = use(meshPath('endpoints') + '?online=true&limit=200')
  return [
    h('div', { class: 'two' },
      h('div', null,
        h('label', { for: 'script-text' }, t('Script')),
        h('textarea', { id: 'script-text', rows: 12, spellcheck: 'false', value: form.text, oninput: e => { form.text = e.target.value } }),
        h('label', null, t('Run by'), ' ', h('select', { value: form.with, onchange: e => { form.with = e.target.value; redraw() } }, interpreters.map(([v, n]) => h('option', { value: v }, n))))),
      h('fieldset', null, h('legend', null, t('Endpoints')),
        h('label', null, t('With label'), ' ', h('input', { value: form.label, oninput: e => { form.label = e.target.value.trim(); redraw() } })),
        answerOf(all, rows => h('div', { class: 'choices' }, rows.map(e => h('label', { key: e.id },
          h('input', { type: 'checkbox', checked: takes(e), disabled: Boolean(form.label), onchange: c => { if (c.target.checked) form.chosen.add(e.id); else form.chosen.delete(e.id); redraw() } }), ' ', e.name)))))),
    h('div', { class: 'bar' }, button(form.running ? t('Working…') : t('Run'), () => run(all?.body ?? []), { class: 'main' }),
      form.running ? button(t('Stop'), stop, { class: 'danger' }) : null),
    h('div', { 'aria-live': 'polite' }, form.results.map(r => h('section', { key: r.id, class: 'card' },
      h('h2', null, r.name, ' ', r.error ? state('bad', r.error) : r.exit ? state(r.exit.status ? 'bad' : 'good', t('ended with status {status}', { status: r.exit.status })) : state('busy', t('running'))),
      r.text ? h('pre', { tabindex: '0' }, r.text) : null))),
    line(command(ztm(), 'script', 'FILE', '--with', form.with, form.label ? ['--label', form.label] : ['--ep', some(chosen(all).join(' '), 'EP')])),
  ]
}

// chosen are the names of the endpoints that the script goes to.
function chosen(all) { return all?.status === 200 ? all.body.filter(takes).map(e => e.name) : [] }

function takes(e) { return form.label ? (e.labels ?? []).includes(form.label) : form.chosen.has(e.id) }

async function run(all) {
  if (form.running) return
  const list = all.filter(takes)
  Object.assign(form, { running: true, results: list.map(e => ({ id: e.id, name: e.name, text: '' })) })
  redraw()
  const queue = [...form.results]
  await Promise.all(Array.from({ length: PARALLEL }, async () => {
    for (let r = queue.shift(); r; r = queue.shift()) await one(r)
  }))
  form.running = false
  redraw()
}

async function one(r) {
  const source = new TextEncoder().encode(form.text)
  const decoder = new TextDecoder()
  const out = p => { r.text = (r.text + decoder.decode(p, { stream: true })).slice(-MOST); redraw() }
  try {
    await api('POST', meshPath('names', r.name), {}).catch(e => { if (r.id !== mesh().agent.id) throw e })
    r.program = await Program.begin(mesh().name, r.id, 'script/run', {}, { name: 'console', with: form.with, size: source.length }, source, { stdout: out, stderr: out })
    r.program.end()
    r.exit = await r.program.run()
    if (r.exit.reason) r.error = r.exit.reason
  } catch (e) {
    r.error = e.message
  }
  redraw()
}

function stop() {
  for (const r of form.results) if (!r.exit && !r.error) r.program?.signal('TERM')
}
