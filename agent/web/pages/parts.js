// What pages are made of: tables, dialogs that show the command that does the same, notices.

import { agent, redraw } from './agent.js'
import { h } from './dom.js'
import { t } from './words.js'

// quote writes a word as a shell has it.
export function quote(word) {
  return /^[\w@%+=:,./~-]+$/.test(word) ? word : `'${String(word).replaceAll("'", `'\\''`)}'`
}

// command joins the words of a command; lists are joined, false and '' are left out.
export function command(...words) {
  return words.flat(Infinity).filter(w => w !== false && w !== 0 && w !== '' && w !== undefined && w !== null).map(w => quote(String(w))).join(' ')
}

// line shows a command, with a button that copies it.
export function line(text) {
  return h('div', { class: 'line' }, h('code', null, text), h('button', {
    type: 'button', title: t('Copy'), 'aria-label': t('Copy the command'),
    onclick: e => copy(text, e.currentTarget),
  }, h('svg', { viewBox: '0 0 16 16', width: 16, height: 16, 'aria-hidden': 'true' },
    h('path', { class: 'icon', d: 'M5 3h8v9H5zM3 5v9h8' }))))
}

export async function copy(text, button) {
  await navigator.clipboard.writeText(text)
  button.dataset.done = '1'
  setTimeout(() => delete button.dataset.done, 1500)
}

// answerOf draws what is known of an answer: a hint to wait, the failure, or what body makes of it.
export function answerOf(a, body) {
  if (!a) return h('p', { class: 'quiet', role: 'status' }, t('Loading…'))
  if (a.status >= 400) return failure(a.body)
  return body(a.body)
}

const reasons = {
  http_request_denied: 'This is not allowed.', destination_not_found: 'There is no such thing.', conflict: 'This is taken.',
  destination_unavailable: 'It cannot be reached now.', connection_timeout: 'It did not answer in time.',
  connection_limit_reached: 'A limit is reached.', http_request_error: 'The request makes no sense.',
}

// failure shows what went wrong: the kind in the language of the page, and the words of the agent.
export function failure(e) {
  const kind = reasons[e?.error ?? e?.code]
  return h('div', { class: 'failure', role: 'alert' }, kind ? h('strong', null, t(kind)) : null, ' ', e?.message ?? t('It failed.'))
}

// table is a table on wide screens and a list of cards on narrow ones. columns: { head, cell(row) },
// with number: true at the right.
export function table(columns, rows, options = {}) {
  if (!rows.length) return h('p', { class: 'quiet' }, options.empty ?? t('There is nothing here.'))
  return h('div', { class: 'scroll' }, h('table', { 'aria-label': options.label },
    h('thead', null, h('tr', null, columns.map(c => h('th', { scope: 'col', class: c.number && 'number' }, c.head)))),
    h('tbody', null, rows.map((row, i) => h('tr', { key: options.key?.(row) ?? i }, columns.map(c =>
      h('td', { 'data-head': c.head, class: c.number && 'number' }, c.cell(row))))))))
}

// button is a button that changes something. It is not there where the page only looks.
export function button(text, onclick, options = {}) {
  if (agent.readOnly && !options.looks) return null
  return h('button', { type: 'button', class: options.class, onclick, title: options.title }, text)
}

// state shows a state by a word and a mark, not by colour alone.
export function state(kind, text) {
  const mark = { good: '●', bad: '✕', quiet: '○', busy: '◐' }[kind]
  return h('span', { class: 'state ' + kind }, h('span', { 'aria-hidden': 'true' }, mark), ' ', text)
}

// way shows how flows with an endpoint go: directly, or through a hub, and why.
export function way(e) {
  if (e.local) return '–'
  if (e.route?.direct) return state('good', t('direct ({kind})', { kind: e.route.direct }))
  return state('quiet', e.route?.why ? t('relayed: {why}', { why: e.route.why }) : t('relayed'))
}

let shown = null, sequence = 0

// dialog asks. fields: { name, label, kind: text | password | area | check | choice | file, value, hint,
// options, required, wide }. command(values) is the line that does the same; submit(values) does it, and may
// return what is shown afterwards.
export function dialog(d) {
  const values = {}
  for (const f of d.fields ?? []) values[f.name] = f.value ?? (f.kind === 'check' ? false : '')
  shown = { ...d, values, busy: false, error: null, result: null, id: ++sequence, before: document.activeElement }
  redraw()
}

// confirm asks before something is destroyed, and names it.
export function confirm(title, text, line, submit) {
  dialog({ title, text, danger: true, command: () => line, submit })
}

export function close() {
  const back = shown?.before
  shown = null
  redraw()
  back?.focus?.()
}

async function submitted(e) {
  e.preventDefault()
  const d = shown
  if (d.busy) return
  Object.assign(d, { busy: true, error: null })
  redraw()
  try {
    const result = await d.submit(d.values)
    if (shown !== d) return
    if (result) Object.assign(d, { result, busy: false })
    else return close()
  } catch (error) {
    Object.assign(d, { error, busy: false })
  }
  redraw()
}

// dialogs is the dialog that is open.
export function dialogs() {
  const d = shown
  if (!d) return null
  const done = d.result !== null
  return h('dialog', {
    key: 'dialog' + d.id, 'aria-labelledby': 'dialog-title', ref: e => queueMicrotask(() => { e.showModal(); e.querySelector('input,textarea,select')?.focus() }),
    oncancel: e => { e.preventDefault(); close() },
  }, h('form', { onsubmit: submitted },
    h('h2', { id: 'dialog-title' }, d.title),
    d.text ? h('p', null, d.text) : null,
    done ? d.result : [
      (d.fields ?? []).map(f => field(d, f)),
      d.error ? failure(d.error) : null,
      d.command ? h('div', { class: 'same' }, h('span', null, t('The command that does the same:')), line(d.command(d.values))) : null,
    ],
    h('div', { class: 'buttons' },
      h('button', { type: 'button', onclick: close }, done ? t('Close') : t('Cancel')),
      done ? null : h('button', { type: 'submit', class: d.danger ? 'danger' : 'main', disabled: d.busy }, d.busy ? t('Working…') : d.action ?? d.title))))
}

function field(d, f) {
  const id = 'field-' + f.name, hint = f.hint ? id + '-hint' : undefined
  const common = { id, name: f.name, required: f.required, 'aria-describedby': hint, autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false' }
  const put = e => { d.values[f.name] = e.target.value; redraw() }
  let control
  switch (f.kind) {
    case 'check':
      return h('div', { class: 'field check' },
        h('input', { ...common, type: 'checkbox', checked: d.values[f.name], onchange: e => { d.values[f.name] = e.target.checked; redraw() } }),
        h('label', { for: id }, f.label), f.hint ? h('small', { id: hint }, f.hint) : null)
    case 'choice':
      control = h('select', { ...common, value: d.values[f.name], onchange: put }, f.options.map(([value, text]) => h('option', { value }, text)))
      break
    case 'area':
      control = h('textarea', { ...common, rows: f.rows ?? 4, value: d.values[f.name], oninput: put, placeholder: f.example })
      break
    case 'file':
      control = h('input', { ...common, type: 'file', onchange: e => { d.values[f.name] = e.target.files[0]; redraw() } })
      break
    default:
      control = h('input', { ...common, type: f.kind ?? 'text', value: d.values[f.name], oninput: put, placeholder: f.example })
  }
  return h('div', { class: 'field' }, h('label', { for: id }, f.label), control, f.hint ? h('small', { id: hint }, f.hint) : null)
}

// some is a list for a command, or the word that stands for what is to be written yet.
export function some(text, word) {
  const all = list(text)
  return all.length ? all : word
}

// list reads what a person wrote with commas or spaces between.
export function list(text) { return text.split(/[\s,]+/).filter(Boolean) }

// save gives a person a file. It is never shown: what a peer wrote must not run as a page.
export function save(name, parts, type = 'application/octet-stream') {
  const url = URL.createObjectURL(new Blob(parts, { type }))
  const a = document.createElement('a')
  a.href = url
  a.download = plainName(name)
  a.click()
  setTimeout(() => URL.revokeObjectURL(url), 60_000)
}

function plainName(name) { return String(name).replace(/[\p{C}/\\]/gu, '_').slice(-200) || 'file' }

