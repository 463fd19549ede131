import { api, data, redraw, use } from './agent.js'
import { h } from './dom.js'
import { chooser, endpoint, endpointPath, mesh, meshPath, ztm } from './mesh.js'
import { answerOf, button, command, confirm, dialog, failure, line, list, some, state, table } from './parts.js'
import { date, number, t } from './words.js'

const asked = { target: '', answer: null, error: null }
const draft = { now: null, text: '', checked: null, error: null, busy: false } // a policy that is being edited; now is what is in force

// policyPath is the policy as an endpoint has it. Groups are changed at one that holds the key.
function policyPath(id, below) { return endpointPath(id, 'policy', ...below ?? []) }

export function policy() {
  const me = mesh().agent.id
  return [
    h('div', { class: 'bar' }, chooser()),
    answerOf(use(policyPath(endpoint().id)), p => p.version ? h('div', null,
      p.inForce ? state('good', t('Version {n} is in force.', { n: number(p.version) })) : state('busy', t('Version {n} is known, and not in force here yet.', { n: number(p.version) })),
      p.stale ? h('p', null, state('bad', t('It is too old: nobody gets in by it.'))) : null,
      p.labels?.length ? h('p', null, t('Labels that give rights: {labels}', { labels: p.labels.join(', ') })) : null,
      p.unknown?.length ? h('p', null, state('busy', t('Rules here name what the policy has not: {names}', { names: p.unknown.join(', ') }))) : null,
    ) : h('p', { class: 'quiet' }, t('The mesh has no policy: each endpoint goes by its own rules.'))),
    line(command(ztm(true), 'policy', 'get')),
    button(t('Edit the policy'), edit),
    drafted(),
    h('h2', null, t('Groups')),
    answerOf(use(policyPath(me, ['groups'])), groups => table([
      { head: t('Group'), cell: g => g.name },
      { head: t('Members'), cell: g => members(g).map(m => h('div', null, m.user, m.until ? ' – ' + date(m.until) : '')) },
      { head: '', cell: g => h('div', { class: 'actions' }, button(t('Add members'), () => grow(g.name)), button(t('Remove members'), () => shrink(g)), button(t('Delete'), () => destroy(g), { class: 'danger' })) },
    ], groups, { label: t('Groups'), key: g => g.name, empty: t('There is no group that this endpoint knows of.') })),
    button(t('New group'), () => grow('')), line(command(ztm(), 'group', 'get')),
    h('h2', null, t('Who can reach')),
    h('form', { class: 'bar', onsubmit: ask },
      h('label', { class: 'grow' }, t('Target'), ' ', h('input', { name: 'target', placeholder: 'tunnel/tcp/web', spellcheck: 'false', oninput: e => { asked.target = e.target.value.trim(); redraw() } })),
      h('button', { type: 'submit' }, t('Ask'))),
    asked.error ? failure(asked.error) : null,
    asked.answer ? table([
      { head: t('Who'), cell: r => r.user },
      { head: t('Decision'), cell: r => r.allow ? state('good', t('allow')) : state('bad', t('deny')) },
      { head: t('Rule'), cell: r => r.rule || '–' },
      { head: t('Until'), cell: r => date(r.until) },
    ], asked.answer.rows ?? [], { label: t('Who can reach'), empty: t('Nobody.') }) : null,
    line(command(ztm(), 'who-can', 'reach', endpoint().name, asked.target || 'TARGET')),
  ]
}

async function ask(e) {
  e.preventDefault()
  Object.assign(asked, { answer: null, error: null })
  try {
    asked.answer = await api('GET', policyPath(endpoint().id, ['who-can']) + '?' + new URLSearchParams({ target: asked.target }))
  } catch (error) {
    asked.error = error
  }
  redraw()
}

// members are those of a group whose membership has neither ended nor gone with an eviction.
function members(g) {
  return (g.members ?? []).filter(m => !g.void?.includes(m.user) && !(m.until && new Date(m.until) <= new Date()))
}

function change(name, body) { return api('POST', policyPath(mesh().agent.id, ['groups', name]), body).then(() => null) }

function grow(name) {
  dialog({
    title: name ? t('Add members') : t('New group'), action: t('Save'),
    fields: [...name ? [] : [{ name: 'name', label: t('Group'), required: true, example: 'ops' }],
      { name: 'users', label: t('Users'), required: true }, { name: 'reason', label: t('Reason') }],
    command: v => command(ztm(), 'group', 'add', name || v.name || 'GROUP', some(v.users, 'USER'), v.reason && ['--reason', v.reason]),
    submit: v => change(name || v.name, { add: list(v.users), reason: v.reason }),
  })
}

function shrink(g) {
  dialog({
    title: t('Remove members'), action: t('Save'), text: (g.members ?? []).map(m => m.user).join(', '),
    fields: [{ name: 'users', label: t('Users'), required: true }],
    command: v => command(ztm(), 'group', 'remove', g.name, some(v.users, 'USER')), submit: v => change(g.name, { remove: list(v.users) }),
  })
}

function destroy(g) {
  confirm(t('Delete'), t('Group {name} goes, and what its members reach by it is cut.', g), command(ztm(), 'group', 'remove', g.name), () => change(g.name, { delete: true }))
}

// edit shows the policy in force as the file that `ztm policy export` prints.
async function edit() {
  await during(async () => {
    const now = await api('GET', policyPath(endpoint().id, ['source']))
    const { file } = await api('POST', '/policy/export', now)
    Object.assign(draft, { at: endpoint().id, now, text: file, checked: null })
  })
}

async function during(f) {
  Object.assign(draft, { busy: true, error: null })
  redraw()
  try { await f() } catch (error) { draft.error = error }
  draft.busy = false
  redraw()
}

function drafted() {
  if (!draft.now && !draft.error) return null
  return h('section', { class: 'card' },
    draft.now ? [
      h('label', { for: 'policy-file' }, t('The policy as a file')),
      h('textarea', { id: 'policy-file', rows: 16, spellcheck: 'false', value: draft.text, oninput: e => { Object.assign(draft, { text: e.target.value, checked: null }); redraw() } }),
    ] : null,
    draft.error ? failure(draft.error) : null,
    draft.checked ? difference(draft.checked) : null,
    h('div', { class: 'bar' },
      draft.now ? h('button', { type: 'button', disabled: draft.busy, onclick: check }, t('Show what it changes')) : null,
      draft.checked ? button(t('Apply'), apply, { class: 'main' }) : null,
      h('button', { type: 'button', onclick: () => { Object.assign(draft, { now: null, text: '', checked: null, error: null }); redraw() } }, t('Discard'))),
    line(command(ztm(true), 'policy', 'apply', '-f', 'FILE', !draft.checked && '--dry-run')))
}

function check() {
  return during(async () => {
    draft.checked = await api('POST', '/policy/check', { now: draft.now, file: draft.text })
    for (const e of data(meshPath('endpoints') + '?limit=1000') ?? []) {
      const named = draft.checked.next.source.endpoints?.[e.name]
      if (named && named.id !== e.id) draft.checked.difference.warnings.push(t('Endpoint {name} has the ID {is} in the mesh, and {said} in the file.', { name: e.name, is: e.id, said: named.id }))
    }
  })
}

function difference(c) {
  const d = c.difference
  const rows = [...d.gains.map(x => ({ ...x, gains: true })), ...d.losses]
  return [
    h('p', { role: 'status' }, state('good', t('Tests that hold: {n}', { n: number(c.tests) }))),
    d.warnings.map(w => h('p', null, state('busy', w))),
    table([
      { head: '', cell: x => x.gains ? state('good', t('gains')) : state('bad', t('loses')) },
      { head: t('Who'), cell: x => x.user },
      { head: t('Target'), cell: x => x.to },
      { head: t('At'), cell: x => x.at },
      { head: t('From'), cell: x => x.from || '–' },
      { head: t('By'), cell: x => x.grant },
      { head: t('Until'), cell: x => [end(x.until), x.was && t('{when} before', { when: end(x.was) })].filter(Boolean).join(', ') || '–' },
    ], rows.slice(0, 100), { label: t('Who gains and loses what'), empty: t('Nobody gains or loses anything.') }),
    rows.length > 100 ? h('p', { class: 'quiet' }, t('{n} more', { n: number(rows.length - 100) })) : null,
  ]
}

// end is when a right ends: a time, or the words for never.
function end(s) { return s && (isNaN(Date.parse(s)) ? t('for good') : date(s)) }

function apply() {
  confirm(t('Apply'), t('{gains} rights are given and {losses} are taken. What is taken is cut within seconds.', { gains: number(draft.checked.difference.gains.length), losses: number(draft.checked.difference.losses.length) }),
    command(ztm(true), 'policy', 'apply', '-f', 'FILE'), async () => {
      await api('PUT', policyPath(draft.at, ['source']), draft.checked.next)
      Object.assign(draft, { now: null, text: '', checked: null, error: null })
    })
}
